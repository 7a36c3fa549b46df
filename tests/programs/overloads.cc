// hops: spawn=1 message=4 exit=1
/* C++ names: namespaces, overloads, a template and an operator, each of which sends one letter. */
#include "letters.h"
#include "tasks.h"

#include <string>

namespace shop {

class Cart {
  public:
    explicit Cart(int outlet) : outlet(outlet) {}
    __attribute__((noipa)) void add(int) { send_letter(outlet, 61); }
    __attribute__((noipa)) void add(const std::string &) { send_letter(outlet, 62); }
    template <typename Kind> __attribute__((noipa)) void add_all(const Kind &) { send_letter(outlet, 63); }
    __attribute__((noipa)) Cart &operator+=(double) {
        send_letter(outlet, 64);
        return *this;
    }

  private:
    int outlet;
};

} // namespace shop

static void testify_function(const char *name) {
    const char *const functions[] = {name, "main", NULL};
    testify_frames(self(), functions);
}

int main() {
    int ends[2];
    MUST(pipe(ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        for (size_t size = 61; size <= 64; size++)
            take_letter(ends[0], "pipe", size);
        _exit(0);
    }
    shop::Cart cart(ends[1]);
    cart.add(1);
    testify_function("shop::Cart::add(int)");
    cart.add(std::string("two"));
    testify_function("shop::Cart::add(std::__cxx11::basic_string<char, std::char_traits<char>, "
                     "std::allocator<char> > const&)");
    cart.add_all('3');
    testify_function("void shop::Cart::add_all<char>(char const&)");
    cart += 4.0;
    testify_function("shop::Cart::operator+=(double)");
    reap_well(child);
    return 0;
}
