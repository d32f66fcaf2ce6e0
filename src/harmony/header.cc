#include "harmony/header.h"

#include <algorithm>
#include <array>

namespace moxie::harmony {
namespace {

using Kind = HeaderPiece::Kind;

constexpr std::string_view kConstrain = "<|constrain|>";
constexpr std::string_view kTo = "to=";
constexpr std::string_view kFunctions = "functions.";
constexpr std::string_view kAnalysis = "analysis";
constexpr std::array<std::string_view, 3> kChannels = {"analysis", "commentary", "final"};
constexpr std::array<std::string_view, 5> kRoleWords = {"assistant", "user", "system", "developer",
                                                        "tool"};

bool is_channel(std::string_view word) {
  return std::find(kChannels.begin(), kChannels.end(), word) != kChannels.end();
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

std::string_view without_leading_blanks(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  return text;
}

std::string_view first_word(std::string_view text) {
  return text.substr(
      0, static_cast<size_t>(std::find_if(text.begin(), text.end(), is_blank) - text.begin()));
}

// Bytes of the Unicode White_Space character at the start of well-formed `text`, or 0.
size_t white_space_length(std::string_view text) {
  if (text.empty()) return 0;
  if (is_blank(text[0]) || text[0] == '\v') return 1;
  if (text.starts_with("\xc2\x85") || text.starts_with("\xc2\xa0")) return 2;
  if (text.starts_with("\xe1\x9a\x80") || text.starts_with("\xe3\x80\x80")) return 3;
  if (text.starts_with("\xe2\x81\x9f")) return 3;
  if (text.starts_with("\xe2\x80") && text.size() > 2) {
    const auto last = static_cast<unsigned char>(text[2]);
    if (last <= 0x8a || last == 0xa8 || last == 0xa9 || last == 0xaf) return 3;
  }
  return 0;
}

std::string_view trimmed(std::string_view text) {
  while (const size_t length = white_space_length(text)) text.remove_prefix(length);
  for (bool again = true; again;) {
    again = false;
    for (size_t length = 1; length <= 3 && length <= text.size() && !again; ++length) {
      again = white_space_length(text.substr(text.size() - length)) == length;
      if (again) text.remove_suffix(length);
    }
  }
  return text;
}

// Takes the name behind <|channel|> from the front of `text`: up to white space or "<".
std::string take_channel(std::string_view& text, bool* skipped_blanks = nullptr) {
  const std::string_view later = without_leading_blanks(text);
  if (later.size() != text.size() && is_channel(first_word(later))) {
    if (skipped_blanks != nullptr) *skipped_blanks = true;
    text = later;
  }
  size_t length = 0;
  while (length < text.size() && text[length] != '<' &&
         white_space_length(text.substr(length)) == 0)
    ++length;
  const std::string name(text.substr(0, length));
  text.remove_prefix(length);
  return name;
}

// `bytes` with U+FFFD for what is not UTF-8, which is a recovery.
std::string decode_utf8(const std::string& bytes, std::vector<Recovery>& recoveries) {
  Utf8Stream stream;
  std::string decoded = stream.push(bytes) + stream.finish();
  if (decoded != bytes) recoveries.push_back(Recovery::kInvalidUtf8);
  return decoded;
}

// A word of the header; of a content type behind <|constrain|> including that.
struct Part {
  std::string text;
  bool constrain = false;
  bool is_recipient() const { return !constrain && text.starts_with(kTo); }
};

// The header as words and channel names.
class Words {
 public:
  Words(const std::vector<HeaderPiece>& pieces, std::vector<Recovery>& recoveries)
      : recoveries_(recoveries) {
    for (const HeaderPiece& piece : pieces) {
      if (piece.kind == Kind::kText) {
        read_text(piece.text);
      } else {
        close_constrain();
        if (piece.kind == Kind::kChannel) channels.emplace_back();
        if (piece.kind == Kind::kConstrain) constrain_open_ = true;
        if (piece.kind == Kind::kOtherControl)
          recoveries.push_back(ends_in_word_ ? Recovery::kControlInName
                                             : Recovery::kExtraHeaderText);
        ends_in_word_ = false;
      }
      previous_ = piece.kind;
    }
    close_constrain();
  }

  std::vector<Part> parts;
  std::vector<std::string> channels;

 private:
  void read_text(const std::string& bytes) {
    const std::string decoded = decode_utf8(bytes, recoveries_);
    std::string_view text = decoded;
    if (previous_ == Kind::kChannel) {
      bool skipped_blanks = false;
      channels.back() = take_channel(text, &skipped_blanks);
      if (skipped_blanks) recoveries_.push_back(Recovery::kExtraHeaderText);
    }
    // What is glued to a meaningless control token goes with it; so does what follows the "<" that
    // ended a channel's name.
    if (previous_ == Kind::kOtherControl) text.remove_prefix(first_word(text).size());
    if (previous_ == Kind::kChannel && text.starts_with('<')) {
      text.remove_prefix(first_word(text).size());
      recoveries_.push_back(Recovery::kExtraHeaderText);
    }
    const std::string_view later = trimmed(text);
    if (constrain_open_ && later.data() != text.data()) {
      recoveries_.push_back(Recovery::kExtraHeaderText);
      if (later.starts_with(kTo)) close_constrain();
    }
    for (text = later; !text.empty(); text = without_leading_blanks(text)) {
      const std::string_view word = first_word(text);
      Part part;
      if (constrain_open_) part = {std::string(kConstrain), true};
      constrain_open_ = false;
      part.text += word;
      parts.push_back(std::move(part));
      text.remove_prefix(word.size());
    }
    ends_in_word_ = !decoded.empty() && !is_blank(decoded.back());
  }

  void close_constrain() {
    if (constrain_open_) parts.push_back({std::string(kConstrain), true});
    constrain_open_ = false;
  }

  std::vector<Recovery>& recoveries_;
  Kind previous_ = Kind::kText;
  bool constrain_open_ = false, ends_in_word_ = false;
};

// The last valid name, else the last one; analysis if that is none.
std::string choose_channel(const std::vector<std::string>& names,
                           std::vector<Recovery>& recoveries) {
  if (names.empty()) return "";
  if (names.size() > 1) recoveries.push_back(Recovery::kRepeatedChannel);
  for (size_t i = names.size(); i-- > 0;)
    if (is_channel(names[i])) return names[i];
  recoveries.push_back(names.back().empty() ? Recovery::kEmptyChannel : Recovery::kUnknownChannel);
  return std::string(kAnalysis);
}

// "assistant", "user:alice"; "assistantassistant" counts as the word once, with `repeated` set.
struct RoleWord {
  Role role;
  std::string name;
  bool repeated = false;
};

std::optional<RoleWord> read_role(std::string_view word) {
  for (const std::string_view role_word : kRoleWords) {
    std::string_view rest = word;
    int times = 0;
    while (rest.starts_with(role_word)) {
      rest.remove_prefix(role_word.size());
      ++times;
    }
    if (times == 0) continue;
    const Role role = *parse_role(role_word);
    const bool named = rest.size() > 1 && rest.front() == ':' && role != Role::kTool;
    if (!rest.empty() && !named) continue;
    return RoleWord{role, named ? std::string(rest.substr(1)) : "", times > 1};
  }
  return std::nullopt;
}

// Names longer than this mean nothing, and would make a header that is too long when it is rendered
// again.
constexpr size_t kMaxNameBytes = 256;

// Whole characters of UTF-8 text; false if all of it fits.
bool shorten(std::string& name) {
  if (name.size() <= kMaxNameBytes) return false;
  size_t end = kMaxNameBytes;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80) --end;
  name.resize(end);
  return true;
}

class HeaderReader {
 public:
  HeaderReader(const std::vector<HeaderPiece>& pieces, const HeaderContext& context)
      : context_(context), words_(pieces, out_.recoveries) {}

  ParsedHeader read() {
    out_.message.channel = choose_channel(words_.channels, out_.recoveries);
    read_author();
    read_recipient_and_type();
    for (std::string* name :
         {&out_.message.name, &out_.message.recipient, &out_.message.content_type})
      if (shorten(*name)) mend(Recovery::kExtraHeaderText);
    return std::move(out_);
  }

 private:
  std::vector<Part>& parts() { return words_.parts; }
  void mend(Recovery recovery) { out_.recoveries.push_back(recovery); }

  bool is_offered(std::string_view name) const {
    return std::find(context_.functions.begin(), context_.functions.end(), name) !=
           context_.functions.end();
  }

  // Whether a word without "to=" can mean a tool.
  bool can_name_tool(std::string_view word) const {
    if (word == "python" || word == "browser" || is_offered(word)) return true;
    if (word.ends_with("json") && is_offered(word.substr(0, word.size() - 4))) return true;
    const size_t dot = word.find('.');
    if (dot == std::string_view::npos || dot == 0 || dot + 1 == word.size()) return false;
    return std::all_of(word.begin(), word.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '-' || c == '.';
    });
  }

  void read_author() {
    Message& message = out_.message;
    message.role = Role::kAssistant;
    const bool has_word =
        !parts().empty() && !parts().front().constrain && !parts().front().is_recipient();
    if (!has_word) {
      if (context_.start == HeaderStart::kExplicit) mend(Recovery::kUnknownRole);
      return;
    }
    const std::string word = parts().front().text;
    const std::optional<RoleWord> role = read_role(word);
    if (context_.start == HeaderStart::kPrompted) {
      if (!role || role->role != Role::kAssistant || !role->name.empty()) return;
    } else if (role) {
      message.role = role->role;
      message.name = role->role == Role::kTool ? word : role->name;
    } else if (context_.start == HeaderStart::kImplied && is_channel(word)) {
      if (words_.channels.empty()) message.channel = word;
    } else if (addresses_somebody() || can_name_tool(word)) {
      message.role = Role::kTool;
      message.name = word;
    } else {
      mend(Recovery::kUnknownRole);
    }
    if (role && role->repeated) mend(Recovery::kExtraHeaderText);
    parts().erase(parts().begin());
  }

  bool addresses_somebody() {
    return std::any_of(parts().begin() + 1, parts().end(),
                       [](const Part& part) { return part.is_recipient(); });
  }

  void read_recipient_and_type() {
    Message& message = out_.message;
    const size_t size = parts().size();
    size_t recipient = size, type = size;
    for (size_t i = size; i-- > 0;) {
      const Part& part = parts()[i];
      if (part.constrain) type = i;
      // A stray "to=assistant" of the assistant itself addresses nobody.
      const bool nobody = part.text.size() == kTo.size() ||
                          (message.role == Role::kAssistant && part.text == "to=assistant");
      if (part.is_recipient() && !nobody) recipient = i;
    }
    if (recipient < size) {
      message.recipient = parts()[recipient].text.substr(kTo.size());
    } else if (size > 0 && size <= 2 && is_bare_recipient(parts()[0])) {
      recipient = 0;
      message.recipient = parts()[0].text;
    }
    const size_t behind = recipient < size ? recipient + 1 : 0;
    if (type == size && behind + 1 == size && is_type(parts()[behind], recipient < size))
      type = behind;
    if (type < size) message.content_type = parts()[type].text;
    const size_t used = (recipient < size ? 1 : 0) + (type < size ? 1 : 0);
    const bool misplaced_type = type < size && recipient < size && type < recipient;
    if (used < size || misplaced_type) mend(Recovery::kExtraHeaderText);
    clean_recipient();
  }

  bool is_bare_recipient(const Part& part) const {
    if (part.constrain || part.is_recipient()) return false;
    if (out_.message.role == Role::kTool) return part.text == "assistant";
    return out_.message.role == Role::kAssistant && can_name_tool(part.text);
  }

  // A content type without <|constrain|>. Behind a recipient any word is one; else it must look
  // like one and not follow a channel that is none.
  bool is_type(const Part& part, bool behind_recipient) const {
    if (part.is_recipient()) return false;
    if (behind_recipient) return true;
    for (const Recovery recovery : out_.recoveries)
      if (recovery == Recovery::kUnknownChannel || recovery == Recovery::kEmptyChannel ||
          recovery == Recovery::kUnknownRole)
        return false;
    return std::all_of(part.text.begin(), part.text.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             std::string_view("_-+./").find(c) != std::string_view::npos;
    });
  }

  void clean_recipient() {
    std::string& recipient = out_.message.recipient;
    const size_t cut = recipient.find("<|");
    if (cut != std::string::npos) {
      recipient.resize(cut);
      mend(Recovery::kControlInName);
    }
    if (out_.message.role != Role::kAssistant || context_.functions.empty()) return;
    const bool prefixed = recipient.starts_with(kFunctions);
    std::string name = prefixed ? recipient.substr(kFunctions.size()) : recipient;
    if (!is_offered(name) && name.ends_with("json") &&
        is_offered(std::string_view(name).substr(0, name.size() - 4))) {
      name.resize(name.size() - 4);
      if (out_.message.content_type.empty()) out_.message.content_type = "json";
      mend(Recovery::kGluedContentType);
    }
    if (!is_offered(name)) return;
    if (!prefixed) mend(Recovery::kMissingNamespace);
    recipient = std::string(kFunctions) + name;
  }

  const HeaderContext& context_;
  ParsedHeader out_;
  Words words_;
};

}  // namespace

ParsedHeader parse_header(const std::vector<HeaderPiece>& pieces, const HeaderContext& context) {
  return HeaderReader(pieces, context).read();
}

ParsedHeader parse_headless(const std::vector<HeaderPiece>& pieces, const HeaderContext& context) {
  ParsedHeader out;
  std::vector<std::string> channels;
  std::string content;
  bool behind_channel = false;
  for (const HeaderPiece& piece : pieces) {
    if (piece.kind == Kind::kChannel) {
      channels.emplace_back();
    } else {
      std::string_view text = piece.text;
      if (behind_channel && piece.kind == Kind::kText) channels.back() = take_channel(text);
      content += text;
    }
    behind_channel = piece.kind == Kind::kChannel;
  }
  out.message.role = Role::kAssistant;
  out.message.channel = choose_channel(channels, out.recoveries);

  std::string_view text = without_leading_blanks(content);
  const std::string_view word = first_word(text);
  const std::optional<RoleWord> role = read_role(word);
  const bool is_explicit = context.start == HeaderStart::kExplicit;
  if (role && role->role != Role::kTool && role->name.size() <= kMaxNameBytes &&
      (is_explicit || role->role == Role::kAssistant)) {
    out.message.role = role->role;
    out.message.name = decode_utf8(role->name, out.recoveries);
    shorten(out.message.name);
    text = without_leading_blanks(text.substr(word.size()));
  } else if (is_explicit) {
    out.recoveries.push_back(Recovery::kUnknownRole);
  }
  out.message.content = text;
  out.recoveries.push_back(Recovery::kMissingMessage);
  return out;
}

bool is_unfinished_header(const std::vector<HeaderPiece>& pieces, const HeaderContext& context) {
  const bool has_control = std::any_of(pieces.begin(), pieces.end(), [](const HeaderPiece& piece) {
    return piece.kind != Kind::kText;
  });
  std::vector<Recovery> ignored;
  std::vector<Part> parts = Words(pieces, ignored).parts;
  if (!parts.empty()) {
    const std::string& word = parts.front().text;
    if (context.start == HeaderStart::kExplicit || read_role(word) ||
        (context.start == HeaderStart::kImplied && is_channel(word)))
      parts.erase(parts.begin());
  }
  // A header has no third word unless it addresses somebody or has a content type to announce.
  if (parts.empty() || parts.front().is_recipient() || parts.front().constrain) return true;
  return has_control && parts.size() < 3;
}

Opening classify_opening(std::string_view text) {
  text = without_leading_blanks(text);
  if (text.empty()) return Opening::kBlank;
  if (text.starts_with(kTo)) return Opening::kHeader;
  if (kTo.starts_with(text)) return Opening::kUndecided;
  const auto opens = [text](std::string_view word, bool may_have_name) {
    if (word.starts_with(text)) return Opening::kUndecided;
    if (!text.starts_with(word)) return Opening::kText;
    const char next = text[word.size()];
    return is_blank(next) || (may_have_name && next == ':') ? Opening::kHeader : Opening::kText;
  };
  for (const std::string_view word : kRoleWords)
    if (const Opening opening = opens(word, true); opening != Opening::kText) return opening;
  for (const std::string_view word : kChannels)
    if (const Opening opening = opens(word, false); opening != Opening::kText) return opening;
  return Opening::kText;
}

}  // namespace moxie::harmony
