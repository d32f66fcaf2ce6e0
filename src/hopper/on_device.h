// The current device and what lies on it, looked at before a launch.
#pragma once

namespace moxie::hopper {

// The current device, known to run these kernels.
struct Device {
  int index = 0, num_sms = 0;
};

// Throws Error(kUnsupported), with `op` as a word of the sentence, unless the current device is a
// Hopper GPU. The first time for a device it also sets every kernel up. Any thread.
Device require_device(const char* op);

// Says where a pointer lies when that is not the current device; null is passed over.
class Pointers {
 public:
  Pointers(const char* op, const Device& device) : op_(op), device_(device.index) {}
  // Throws Error(kInvalidArgument); `what` is a word of the sentence.
  const Pointers& check(const char* what, const void* pointer) const;

 private:
  const char* op_;
  int device_;
};

}  // namespace moxie::hopper
