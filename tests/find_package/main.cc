#include <moxie/chat.h>
#include <moxie/tokenizer.h>
#include <moxie/version.h>

#include <cstdio>

// Renders one question with the tokenizer named on the command line and prints it back as text.
int main(int argc, char** argv) {
  std::printf("moxie %s\n", moxie::version());
  if (argc < 2) return 2;
  const moxie::Tokenizer tokenizer = moxie::Tokenizer::from_file(argv[1]);
  const moxie::HarmonyRenderer renderer(tokenizer);
  moxie::Message question;
  question.content = "What is 2 + 2?";
  std::printf("%s\n", tokenizer.decode(renderer.prompt({question})).c_str());
  return 0;
}
