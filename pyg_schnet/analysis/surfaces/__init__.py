"""The local chemical potential on surfaces and planes, and in files."""
