#include <iostream>

#include "greeting/count.h"
#include "greeting/greeting.h"

int main(int argc, char** argv) {
  const std::string text = Greeting(1, argc > 1 ? argv[1] : "world");
  std::cout << text << " (" << CountWords(text) << " words)" << std::endl;
  return 0;
}
