// Energy, forces and virial of a structure in C++, by a package that `pyg-schnet export MODEL model.pt2` has written.
//
// Usage: host model.pt2 < structure, where a structure is: the number of atoms; three lattice vectors, zero along open
// axes; and for each atom its atomic number and its position, all in Angstrom.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdio>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: host model.pt2 < structure\n"), 1;
  torch::InferenceMode guard;
  torch::inductor::AOTIModelPackageLoader model(argv[1]);
  const double cutoff = std::stod(model.get_metadata()["cutoff"]);

  int64_t atoms = 0;
  double cell[3][3];
  std::cin >> atoms;
  for (auto& vector : cell) for (double& x : vector) std::cin >> x;
  std::vector<int64_t> z(atoms), source, target, shift;
  std::vector<double> pos(3 * atoms);
  for (int64_t i = 0; i < atoms; ++i) std::cin >> z[i] >> pos[3 * i] >> pos[3 * i + 1] >> pos[3 * i + 2];
  if (!std::cin) return std::fprintf(stderr, "host: the structure is incomplete\n"), 1;

  // Every pair within the cutoff as two edges, j -> i and i -> j. A real host has its own list of neighbours; this one
  // tries the images that a box around the cutoff can reach, which is enough for cells that are not skewed.
  int reach[3];
  for (int a = 0; a < 3; ++a) {
    const double length = std::hypot(cell[a][0], cell[a][1], cell[a][2]);
    reach[a] = length > 0 ? static_cast<int>(2 * cutoff / length) + 2 : 0;
  }
  for (int64_t i = 0; i < atoms; ++i)
    for (int64_t j = 0; j < atoms; ++j)
      for (int u = -reach[0]; u <= reach[0]; ++u)
        for (int v = -reach[1]; v <= reach[1]; ++v)
          for (int w = -reach[2]; w <= reach[2]; ++w) {
            double square = 0;
            for (int x = 0; x < 3; ++x) {
              const double d = pos[3 * j + x] - pos[3 * i + x] + u * cell[0][x] + v * cell[1][x] + w * cell[2][x];
              square += d * d;
            }
            if (square >= cutoff * cutoff || (i == j && !u && !v && !w)) continue;
            source.push_back(j), target.push_back(i);
            shift.insert(shift.end(), {u, v, w});
          }

  const auto edges = static_cast<int64_t>(source.size());
  const std::vector<at::Tensor> out = model.run({
      torch::tensor(z, torch::kInt64), torch::tensor(pos, torch::kFloat64).view({atoms, 3}),
      torch::zeros({atoms}, torch::kInt64),
      torch::stack({torch::tensor(source, torch::kInt64), torch::tensor(target, torch::kInt64)}),
      torch::tensor(shift, torch::kInt64).view({edges, 3}),
      torch::from_blob(cell, {1, 3, 3}, torch::kFloat64).clone()});

  std::printf("energy %.12f\n", out[0].item<double>());
  for (int64_t i = 0; i < atoms; ++i)
    std::printf("force %.12f %.12f %.12f\n", out[1][i][0].item<double>(), out[1][i][1].item<double>(), out[1][i][2].item<double>());
  for (int x = 0; x < 3; ++x)
    std::printf("virial %.12f %.12f %.12f\n", out[2][0][x][0].item<double>(), out[2][0][x][1].item<double>(), out[2][0][x][2].item<double>());
}
