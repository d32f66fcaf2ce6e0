// Lets a script hold src/harmony against another implementation: one JSON request per line on
// standard input, one answer per line on standard output. The argument is a vocabulary.
//
//   {"op": "render", "messages": [...], "history": "library", "prompt": true}  -> {"ids": [...]}
//   {"op": "parse", "ids": [...], "in_assistant_turn": true, "functions": []}
//       -> {"messages": [...], "recoveries": {...}, "folds": true}
#include <boost/json.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "harmony/test_conversation.h"
#include "moxie/chat.h"

namespace moxie::harmony {
namespace {

json::Object render(const Tokenizer& tokenizer, const json::Object& request) {
  const HarmonyRenderer renderer(tokenizer);
  const std::vector<Message> messages = read_messages(request.at("messages").as_array());
  const History history = read_history(text_of(request, "history"));
  const std::vector<TokenId> ids = request.at("prompt").as_bool()
                                       ? renderer.prompt(messages, history)
                                       : renderer.conversation(messages, history);
  return {{"ids", json::Array(ids.begin(), ids.end())}};
}

json::Object parse(const Tokenizer& tokenizer, const json::Object& request) {
  HarmonyParser::Options options;
  options.in_assistant_turn = request.at("in_assistant_turn").as_bool();
  if (const json::Value* functions = json::find(request, "functions"))
    for (const json::Value& function : functions->as_array())
      options.functions.emplace_back(function.as_string());
  const Parsed parsed = parse_all(tokenizer, read_ids(request.at("ids")), options);
  json::Array messages;
  for (const Message& message : parsed.messages) messages.push_back(message_json(message));
  json::Object recoveries;
  for (size_t i = 0; i < parsed.recoveries.size(); ++i)
    if (parsed.recoveries[i] > 0) recoveries[name(static_cast<Recovery>(i))] = parsed.recoveries[i];
  const bool folds =
      parsed.fold.nested && !parsed.fold.open && parsed.fold.messages == parsed.messages;
  return {{"messages", messages}, {"recoveries", recoveries}, {"folds", folds}};
}

json::Object answer(const Tokenizer& tokenizer, const std::string& line) {
  try {
    const json::Value request = json::parse(line, "request");
    const std::string op = text_of(request.as_object(), "op");
    return op == "render" ? render(tokenizer, request.as_object())
                          : parse(tokenizer, request.as_object());
  } catch (const std::exception& error) {
    return {{"error", error.what()}};
  }
}

}  // namespace
}  // namespace moxie::harmony

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: harmony_driver VOCABULARY < requests > answers\n");
    return 2;
  }
  const moxie::Tokenizer tokenizer = moxie::Tokenizer::from_file(argv[1]);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << boost::json::serialize(moxie::harmony::answer(tokenizer, line)) << std::endl;
}
