#include "hopper/on_device.h"

#include <cuda_runtime_api.h>

#include <atomic>

#include "base/check.h"
#include "cuda/device.h"
#include "hopper/grouped_gemm.h"
#include "hopper/linear_stream.h"
#include "hopper/linear_wgmma.h"
#include "hopper/moe_stream.h"

namespace moxie::hopper {
namespace {

constexpr int kMaxDevices = 64;

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  MOXIE_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

// Kernels of sm_90a run on 9.0 and nothing else. Sets the kernels up the first time.
int make_ready(const char* op, int device) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  const int minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
  MOXIE_CHECK(major == 9 && minor == 0, kUnsupported, op,
              " needs a Hopper GPU, of compute capability 9.0; device ", device, " has ", major,
              ".", minor);
  MOXIE_CUDA_CHECK(prepare_linear_stream());
  MOXIE_CUDA_CHECK(prepare_linear_wgmma());
  MOXIE_CUDA_CHECK(prepare_grouped_gemm());
  MOXIE_CUDA_CHECK(prepare_moe_stream());
  return attribute(cudaDevAttrMultiProcessorCount, device);
}

}  // namespace

Device require_device(const char* op) {
  static std::atomic<int> ready_sms[kMaxDevices];  // 0: not looked at yet
  Device device;
  const cudaError_t error = cudaGetDevice(&device.index);
  if (error != cudaSuccess) {
    cudaGetLastError();  // so that nobody else meets it
    int driver = 0;
    cudaDriverGetVersion(&driver);
    MOXIE_CHECK(driver != 0, kUnsupported, op,
                " needs a Hopper GPU, but no NVIDIA driver is installed");
    throw make_error(ErrorCode::kUnsupported, op, " needs a Hopper GPU and a driver for CUDA ",
                     CUDART_VERSION / 1000, " or newer; the driver is for ", driver / 1000, ".",
                     driver % 1000 / 10, " and says: ", cudaGetErrorString(error));
  }
  MOXIE_CHECK(device.index < kMaxDevices, kUnsupported, op, " knows devices 0 to ", kMaxDevices - 1,
              ", not ", device.index);
  std::atomic<int>& sms = ready_sms[device.index];
  device.num_sms = sms.load(std::memory_order_acquire);
  if (device.num_sms == 0) {
    device.num_sms = make_ready(op, device.index);
    sms.store(device.num_sms, std::memory_order_release);
  }
  return device;
}

const Pointers& Pointers::check(const char* what, const void* pointer) const {
  if (pointer == nullptr) return *this;
  cudaPointerAttributes attributes{};
  MOXIE_CUDA_CHECK(cudaPointerGetAttributes(&attributes, pointer));
  MOXIE_CHECK(attributes.devicePointer == pointer, kInvalidArgument, what, " of ", op_,
              " lies in the host's memory; it must lie on device ", device_);
  MOXIE_CHECK(attributes.type != cudaMemoryTypeDevice || attributes.device == device_,
              kInvalidArgument, what, " of ", op_, " lies on device ", attributes.device,
              ", but the current device is ", device_);
  return *this;
}

}  // namespace moxie::hopper
