#ifndef GREETING_GREETING_H_
#define GREETING_GREETING_H_

#include <string>

// The greeting for a part of the day, 0 to 2; empty for any other.
std::string Greeting(int part, const std::string& name);

#endif  // GREETING_GREETING_H_
