#include <cstdio>

#include "moxie/version.h"

int main() {
  std::printf("moxie %s\n", moxie::version());
  return 0;
}
