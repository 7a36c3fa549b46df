// C++ names: a namespace, a template, an operator, a lambda, an anonymous namespace, under one another.
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

#define NOINLINE __attribute__((noinline, noipa))

namespace shapes {

struct Circle {
	int radius;
	NOINLINE int area(const std::map<std::string, std::vector<int>> &names, int fd) const
	{
		char byte = 0;
		return read(fd, &byte, 1) + radius + (int)names.size();
	}
	template <class Number> NOINLINE Number scaled(Number by, int fd) const
	{
		return area({}, fd) + by;
	}
	NOINLINE bool operator()(int fd) const
	{
		return scaled<long>(2, fd) > 0;
	}
};

namespace {
NOINLINE int unnamed(int fd)
{
	Circle circle{fd};
	auto inner = [&](int which) NOINLINE { return circle(which) + 1; };
	return inner(fd) + 1;
}
}

}

int main()
{
	write(1, "r", 1);
	return shapes::unnamed(0) + 1;
}
