#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

#include <rino/core/error.hpp>

/// The subset of JSON (RFC 8259) that the header of a safetensors file is made of: objects, arrays, strings and
/// whole numbers. Neither LibTorch nor the packages a user installs with it bring a JSON library for C++, and the
/// header of a foreign file should be read more strictly than a general one reads: no key may appear twice, no
/// number may be rounded, text must be UTF-8.
namespace rino::detail {

/// The length of the well-formed UTF-8 sequence `text` begins with, 0 if it begins with none (Unicode, table 3-7).
inline std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.empty()) {
    return 0;
  }
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    return 1;
  }
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) {
    return 0;
  }
  // After four leads the second byte has a narrower range: no overlong form, no surrogate, none above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) {
    return 0;
  }
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  return length;
}

inline bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_sequence(text);
    if (length == 0) {
      return false;
    }
    text.remove_prefix(length);
  }
  return true;
}

/// Appends a code point up to U+10FFFF as UTF-8.
inline void append_utf8(std::string& text, std::uint32_t code_point) {
  const auto append = [&](std::uint32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  const auto append_tail = [&](unsigned shift) { append(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    append(code_point);
  } else if (code_point < 0x800) {
    append(0xC0 | (code_point >> 6));
    append_tail(0);
  } else if (code_point < 0x10000) {
    append(0xE0 | (code_point >> 12));
    append_tail(6);
    append_tail(0);
  } else {
    append(0xF0 | (code_point >> 18));
    append_tail(12);
    append_tail(6);
    append_tail(0);
  }
}

/// `text`, which is UTF-8, as a JSON string with its quotes; also how names are shown in error messages.
inline std::string json_quote(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    switch (character) {
      case '"':
      case '\\':
        (quoted += '\\') += character;
        break;
      case '\b':
        quoted += "\\b";
        break;
      case '\f':
        quoted += "\\f";
        break;
      case '\n':
        quoted += "\\n";
        break;
      case '\r':
        quoted += "\\r";
        break;
      case '\t':
        quoted += "\\t";
        break;
      default:
        if (byte < 0x20) {
          ((quoted += "\\u00") += digits[byte >> 4]) += digits[byte & 0xF];
        } else {
          quoted += character;
        }
    }
  }
  return quoted += '"';
}

/// Reads a JSON text from front to back: the caller asks for the kind of value it expects next, and anything else
/// is an error that names the byte. Nothing recurses, so no text can exhaust the stack.
class JsonReader {
 public:
  /// @param text  must outlive the reader.
  explicit JsonReader(std::string_view text) : text_(text) {}

  /// Calls `visit(key)` for every key of the object that comes next; `visit` must read the key's value.
  /// @throws rino::Error also when a key appears twice.
  template <typename Visit>
  void object(const Visit& visit) {
    expect('{', "an object");
    if (accept('}')) {
      return;
    }
    std::set<std::string> keys;
    do {
      const auto [key, is_new] = keys.insert(string());
      require(is_new, "the key ", json_quote(*key), " appears twice, again before byte ", at_);
      expect(':', "':'");
      visit(*key);
    } while (accept(','));
    expect('}', "',' or '}'");
  }

  /// Calls `visit()` for every element of the array that comes next; `visit` must read it.
  template <typename Visit>
  void array(const Visit& visit) {
    expect('[', "an array");
    if (accept(']')) {
      return;
    }
    do {
      visit();
    } while (accept(','));
    expect(']', "',' or ']'");
  }

  /// The string that comes next, as UTF-8.
  std::string string() {
    expect('"', "a string");
    std::string value;
    for (;;) {
      const std::string_view rest = text_.substr(at_);
      const std::size_t length = utf8_sequence(rest);
      if (length == 0) {
        fail_here("more of a string in UTF-8");
      }
      const char first = rest.front();
      if (first == '"') {
        ++at_;
        return value;
      }
      if (static_cast<unsigned char>(first) < 0x20) {
        fail_here("an escape in place of a control character");
      }
      if (first == '\\') {
        ++at_;
        append_escape(value);
      } else {
        value += rest.substr(0, length);
        at_ += length;
      }
    }
  }

  /// The number that comes next.
  /// @throws rino::Error for a sign, a fraction, an exponent, a leading zero and for 2^64 or more.
  std::uint64_t whole_number() {
    skip_whitespace();
    std::uint64_t value = 0;
    const char* const begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    const bool leading_zero = end - begin > 1 && *begin == '0';
    const bool goes_on = end != text_.data() + text_.size() && (*end == '.' || *end == 'e' || *end == 'E');
    if (error != std::errc() || leading_zero || goes_on) {
      fail_here("a whole number from 0 to 2^64-1");
    }
    at_ += static_cast<std::size_t>(end - begin);
    return value;
  }

  /// Makes sure that nothing but white space follows.
  void end() {
    skip_whitespace();
    if (at_ != text_.size()) {
      fail_here("the end");
    }
  }

 private:
  [[noreturn]] void fail_here(std::string_view expected) const {
    if (at_ >= text_.size()) {
      fail("the JSON text ends at byte ", at_, " where there should be ", expected);
    }
    const auto byte = static_cast<unsigned char>(text_[at_]);
    if (byte > 0x20 && byte < 0x7F) {
      fail("byte ", at_, " of the JSON text is '", text_[at_], "' where there should be ", expected);
    }
    fail("byte ", at_, " of the JSON text is the byte ", static_cast<int>(byte), " where there should be ", expected);
  }

  void skip_whitespace() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) {
      ++at_;
    }
  }

  bool accept(char wanted) {
    skip_whitespace();
    if (at_ < text_.size() && text_[at_] == wanted) {
      ++at_;
      return true;
    }
    return false;
  }

  void expect(char wanted, std::string_view expected) {
    if (!accept(wanted)) {
      fail_here(expected);
    }
  }

  /// Reads what follows a backslash.
  void append_escape(std::string& value) {
    constexpr std::string_view letters = "\"\\/bfnrtu";
    constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
    const std::size_t which = at_ < text_.size() ? letters.find(text_[at_]) : std::string_view::npos;
    if (which == std::string_view::npos) {
      fail_here("one of \"\\/bfnrtu after a backslash");
    }
    ++at_;
    if (which < meanings.size()) {
      value += meanings[which];
      return;
    }
    std::uint32_t code_point = hex4();
    if (code_point >= 0xD800 && code_point < 0xE000) {
      // Code points above U+FFFF are written as two halves of UTF-16; one half alone stands for no character.
      if (code_point >= 0xDC00 || text_.substr(at_, 2) != "\\u") {
        fail_here("a whole surrogate pair");
      }
      at_ += 2;
      const std::uint32_t low = hex4();
      if (low < 0xDC00 || low >= 0xE000) {
        fail_here("the second half of a surrogate pair before it");
      }
      code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(value, code_point);
  }

  std::uint32_t hex4() {
    std::uint32_t value = 0;
    const std::string_view digits = text_.substr(at_, 4);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != 4 || error != std::errc() || end != digits.data() + 4) {
      fail_here("four hexadecimal digits");
    }
    at_ += 4;
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace rino::detail
