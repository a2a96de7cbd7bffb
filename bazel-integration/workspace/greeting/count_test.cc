#include "greeting/count.h"

int main() {
  if (CountWords("") != 0) return 1;
  if (CountWords("  two   words ") != 2) return 2;
  return 0;
}
