#ifndef GREETING_COUNT_H_
#define GREETING_COUNT_H_

#include <string>

// How many words there are in a text.
int CountWords(const std::string& text);

#endif  // GREETING_COUNT_H_
