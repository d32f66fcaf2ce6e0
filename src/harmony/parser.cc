// The state machine of HarmonyParser: tokens to header pieces and text; header.h reads headers.
#include <utility>

#include "harmony/control_tokens.h"
#include "harmony/header.h"
#include "moxie/chat.h"

namespace moxie {

using harmony::HeaderPiece;
using harmony::HeaderStart;
using harmony::Opening;

namespace {

// Beyond this, a header that no <|message|> ends is content: nothing is held back for ever. The
// longest header that means something has a role, a tool's name, a channel and a content type.
constexpr size_t kMaxHeaderBytes = 1024;

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Content as it streams: whole characters out, and how many pieces of it were not UTF-8.
class ContentText {
 public:
  std::string push(std::string_view bytes) {
    for (const char c : bytes) {
      matched_ = c == kReplacement[matched_] ? matched_ + 1 : c == kReplacement[0] ? 1 : 0;
      if (matched_ == kReplacement.size()) {
        ++num_in_;
        matched_ = 0;
      }
    }
    return count(stream_.push(bytes));
  }
  std::string finish() { return count(stream_.finish()); }
  // Replacement characters that came out and had not been put in.
  int64_t num_invalid() const { return num_out_ - num_in_; }

 private:
  std::string count(std::string text) {
    for (size_t at = text.find(kReplacement); at != std::string::npos;
         at = text.find(kReplacement, at + kReplacement.size()))
      ++num_out_;
    return text;
  }

  Utf8Stream stream_;
  size_t matched_ = 0;  // bytes of kReplacement that the input ends with
  int64_t num_in_ = 0, num_out_ = 0;
};

}  // namespace

struct HarmonyParser::State {
  using Events = std::vector<HarmonyEvent>;
  enum class Phase : uint8_t { kBetween, kHeader, kContent, kFinished };

  const Tokenizer& tokenizer;
  const harmony::ControlTokens control;
  const Options options;

  Phase phase = Phase::kBetween;
  std::vector<Message> messages;
  std::array<int64_t, static_cast<size_t>(Recovery::kCount)> recoveries{};

  // kBetween
  std::string opening;   // text that may yet become a header
  bool strayed = false;  // something else than <|start|> came, and was counted
  // kHeader
  HeaderStart header_start = HeaderStart::kPrompted;
  std::vector<HeaderPiece> pieces;
  size_t header_bytes = 0;
  // kContent
  Message current;
  ContentText content;
  std::string last_channel;  // of the last message that began

  State(const Tokenizer& tokenizer_in, Options options_in)
      : tokenizer(tokenizer_in), control(tokenizer_in), options(std::move(options_in)) {
    if (options.in_assistant_turn) begin_header(HeaderStart::kPrompted);
  }

  void mend(Recovery recovery, int64_t times = 1) {
    recoveries[static_cast<size_t>(recovery)] += times;
  }

  std::optional<MessageEnd> terminator(TokenId token) const {
    if (token == control.end) return MessageEnd::kEnd;
    if (token == control.call) return MessageEnd::kCall;
    if (token == control.ret) return MessageEnd::kReturn;
    if (token == control.end_of_text && token != harmony::kNoToken) return MessageEnd::kEndOfText;
    return std::nullopt;
  }

  void push(TokenId token, Events& events) {
    if (phase == Phase::kFinished) return;
    if (!tokenizer.exists(token)) {
      mend(Recovery::kUnknownToken);
      if (phase == Phase::kContent) emit(content.finish().append(kReplacement), events);
    } else if (phase == Phase::kBetween) {
      push_between(token, events);
    } else if (phase == Phase::kHeader) {
      push_header(token, events);
    } else {
      push_content(token, events);
    }
  }

  void finish(Events& events) {
    if (phase == Phase::kBetween) flush_opening(MessageEnd::kCut, events);
    if (phase == Phase::kHeader) flush_header(events);
    if (phase == Phase::kContent) end_message(MessageEnd::kCut, events);
    phase = Phase::kFinished;
  }

  // --- between messages
  // ---------------------------------------------------------------------------

  void push_between(TokenId token, Events& events) {
    if (token == control.start) {
      flush_opening(MessageEnd::kCut, events);
      begin_header(HeaderStart::kExplicit);
    } else if (const auto end = terminator(token)) {
      if (!flush_opening(*end, events)) mend(Recovery::kStopOutsideMessage);
    } else if (token == control.message && opening.empty()) {
      stray();
      begin_message(continued(), events);
    } else if (token == control.channel || token == control.constrain || token == control.message) {
      stray();
      begin_implied_header(events);
      push_header(token, events);
    } else if (tokenizer.is_special(token)) {
      mend(Recovery::kControlInContent);
    } else {
      stray();
      opening += tokenizer.bytes(token);
      switch (harmony::classify_opening(opening)) {
        case Opening::kBlank:
          opening.clear();
          break;
        case Opening::kUndecided:
          break;
        case Opening::kHeader:
          begin_implied_header(events);
          break;
        case Opening::kText:
          begin_text(events);
          break;
      }
    }
  }

  // Counts once for all that comes before the next message.
  void stray() {
    if (!strayed) mend(Recovery::kMissingStart);
    strayed = true;
  }

  // Text without a header goes on where the last message was.
  Message continued() const {
    Message header;
    header.role = Role::kAssistant;
    header.channel = last_channel;
    return header;
  }

  void begin_text(Events& events) {
    const std::string text = std::exchange(opening, {});
    begin_message(continued(), events);
    emit(content.push(std::string_view(text).substr(text.find_first_not_of(" \t\n\r\f"))), events);
  }

  // What was held back in the hope of a header is a message by itself. False if nothing was.
  bool flush_opening(MessageEnd end, Events& events) {
    if (opening.empty()) return false;
    begin_text(events);
    end_message(end, events);
    return true;
  }

  // --- headers
  // ------------------------------------------------------------------------------------

  void begin_header(HeaderStart start) {
    phase = Phase::kHeader;
    header_start = start;
    pieces.clear();
    header_bytes = 0;
  }

  void begin_implied_header(Events& events) {
    const std::string text = std::exchange(opening, {});
    begin_header(HeaderStart::kImplied);
    if (!text.empty()) add_piece(HeaderPiece::Kind::kText, text, events);
  }

  void push_header(TokenId token, Events& events) {
    const harmony::HeaderContext context{header_start, options.functions};
    if (token == control.start) {
      if (!flush_header(events)) mend(Recovery::kRestartedHeader);
      begin_header(HeaderStart::kExplicit);
    } else if (token == control.message) {
      begin_parsed(harmony::parse_header(pieces, context), events);
    } else if (const auto end = terminator(token)) {
      end_header(*end, events);
    } else {
      using Kind = HeaderPiece::Kind;
      const Kind kind = token == control.channel      ? Kind::kChannel
                        : token == control.constrain  ? Kind::kConstrain
                        : tokenizer.is_special(token) ? Kind::kOtherControl
                                                      : Kind::kText;
      add_piece(kind, tokenizer.bytes(token), events);
    }
  }

  void add_piece(HeaderPiece::Kind kind, std::string_view text, Events& events) {
    if (kind == HeaderPiece::Kind::kText && !pieces.empty() && pieces.back().kind == kind)
      pieces.back().text += text;
    else
      pieces.push_back({kind, std::string(text)});
    header_bytes += text.size();
    if (header_bytes > kMaxHeaderBytes) begin_headless(events);
  }

  void begin_parsed(harmony::ParsedHeader parsed, Events& events) {
    for (const Recovery recovery : parsed.recoveries) mend(recovery);
    begin_message(std::move(parsed.message), events);
  }

  // The header's text becomes content.
  void begin_headless(Events& events) {
    auto parsed = harmony::parse_headless(pieces, {header_start, options.functions});
    const std::string text = std::exchange(parsed.message.content, {});
    begin_parsed(std::move(parsed), events);
    emit(content.push(text), events);
  }

  void end_header(MessageEnd end, Events& events) {
    if (pieces.empty()) {
      mend(header_start == HeaderStart::kPrompted ? Recovery::kStopOutsideMessage
                                                  : Recovery::kMissingMessage);
      phase = Phase::kBetween;
      return;
    }
    const auto parsed = harmony::parse_headless(pieces, {header_start, options.functions});
    if (parsed.message.content.empty() && parsed.message.channel.empty()) {
      for (const Recovery recovery : parsed.recoveries) mend(recovery);
      phase = Phase::kBetween;  // a role and nothing else
      strayed = false;
      return;
    }
    begin_headless(events);
    end_message(end, events);
  }

  // Before the stream ends or another message begins: free text becomes a message, while what is
  // the beginning of a header says nothing yet and is dropped. False if it was.
  bool flush_header(Events& events) {
    if (harmony::is_unfinished_header(pieces, {header_start, options.functions})) return false;
    begin_headless(events);
    end_message(MessageEnd::kCut, events);
    return true;
  }

  // --- messages
  // -----------------------------------------------------------------------------------

  void push_content(TokenId token, Events& events) {
    if (const auto end = terminator(token)) {
      end_message(*end, events);
    } else if (token == control.start) {
      mend(Recovery::kControlInContent);
      end_message(MessageEnd::kCut, events);
      begin_header(HeaderStart::kExplicit);
    } else if (token == control.channel) {
      mend(Recovery::kControlInContent);
      end_message(MessageEnd::kCut, events);
      begin_header(HeaderStart::kImplied);
      add_piece(HeaderPiece::Kind::kChannel, tokenizer.bytes(token), events);
    } else {
      if (tokenizer.is_special(token)) mend(Recovery::kControlInContent);
      emit(content.push(tokenizer.bytes(token)), events);
    }
  }

  void begin_message(Message header, Events& events) {
    phase = Phase::kContent;
    last_channel = header.channel;
    current = std::move(header);
    content = {};
    events.push_back({.kind = HarmonyEvent::Kind::kStart, .header = current, .text = {}});
  }

  void emit(std::string text, Events& events) {
    if (text.empty()) return;
    current.content += text;
    events.push_back({.kind = HarmonyEvent::Kind::kText, .header = {}, .text = std::move(text)});
  }

  void end_message(MessageEnd end, Events& events) {
    emit(content.finish(), events);
    mend(Recovery::kInvalidUtf8, content.num_invalid());
    events.push_back({.kind = HarmonyEvent::Kind::kEnd, .header = {}, .text = {}, .end = end});
    messages.push_back(std::exchange(current, {}));
    phase = Phase::kBetween;
    strayed = false;
  }
};

HarmonyParser::HarmonyParser(const Tokenizer& tokenizer, Options options)
    : state_(std::make_unique<State>(tokenizer, std::move(options))) {}
HarmonyParser::~HarmonyParser() = default;
HarmonyParser::HarmonyParser(HarmonyParser&&) noexcept = default;

void HarmonyParser::push(TokenId token, std::vector<HarmonyEvent>& events) {
  state_->push(token, events);
}
void HarmonyParser::finish(std::vector<HarmonyEvent>& events) { state_->finish(events); }

const std::vector<Message>& HarmonyParser::messages() const { return state_->messages; }
const std::array<int64_t, static_cast<size_t>(Recovery::kCount)>& HarmonyParser::recoveries()
    const {
  return state_->recoveries;
}

}  // namespace moxie
