#include "greeting/greeting.h"

int main() {
  if (Greeting(0, "Ada") != "good morning, Ada") return 1;
  if (!Greeting(3, "Ada").empty()) return 2;
  if (!Greeting(-1, "Ada").empty()) return 3;
  return 0;
}
