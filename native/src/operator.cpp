// The passes as an operator of ONNX Runtime: attar.native::BinarizedAttention, version 1.
//
//     inputs   0 query_key  float (batch, tokens, width)   before normalisation
//              1 value      float (batch, tokens, width)
//              2 anchors    float (heads, depth, anchors)  constant, unit columns
//              3 mean       float (heads, 1, anchors)      constant
//              4 hash       float (heads, anchors, bits)   constant, 32 bits at most
//              5 sigma      float (heads, 1, 1)            constant; absent: each row's own
//              6 mask       bool  (batch, tokens)          absent: every token is real
//     output   0            float (batch, tokens, width)   zeros at padding
//     attribute  beta       float
//
// Nothing that a file can say is believed: shapes are checked before anything is read.

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention.h"
#include "onnxruntime_abi.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

namespace {

enum Input : size_t { QUERY_KEY, VALUE, ANCHORS, MEAN, HASH, SIGMA, MASK, INPUTS };

const OrtApi* api = nullptr;  // of API_VERSION, once registered

// A status of ONNX Runtime's, on its way back to it.
struct Failed {
  OrtStatus* status;
};

void check(OrtStatus* status) {
  if (status) throw Failed{status};
}

// Runs what may throw, for nothing may be thrown into ONNX Runtime.
template <typename Action>
OrtStatus* guarded(Action action) {
  try {
    action();
    return nullptr;
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const std::invalid_argument& error) {
    return api->CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
}

std::vector<int64_t> shape_of(const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api->GetTensorTypeAndShape(value, &info));
  size_t rank = 0;
  OrtStatus* status = api->GetDimensionsCount(info, &rank);
  std::vector<int64_t> shape(rank);
  if (!status) status = api->GetDimensions(info, shape.data(), rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  check(status);
  return shape;
}

std::string words(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (const int64_t axis : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(axis);
  return text + ")";
}

[[noreturn]] void refuse(const std::string& why) {
  throw std::invalid_argument("BinarizedAttention: " + why);
}

// Refuses a tensor of another shape; -1 stands for any size above zero.
std::vector<int64_t> expect(const char* name, const OrtValue* value,
                            const std::vector<int64_t>& expected, const char* meaning) {
  std::vector<int64_t> shape = shape_of(value);
  bool fits = shape.size() == expected.size();
  for (size_t i = 0; fits && i < shape.size(); ++i)
    fits = expected[i] < 0 ? shape[i] > 0 : shape[i] == expected[i];
  if (!fits) refuse(std::string(name) + " must be " + meaning + "; got " + words(shape));
  return shape;
}

template <typename Number>
Number* data_of(const OrtValue* value) {
  void* data = nullptr;
  check(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  return static_cast<Number*>(data);
}

// A weight of the node; null where it is absent, or is no constant.
const OrtValue* constant(const OrtKernelInfo* info, Input index) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
  return is_constant ? value : nullptr;
}

std::unique_ptr<Attention> learned(const OrtKernelInfo* info) {
  const OrtValue* anchors = constant(info, ANCHORS);
  const OrtValue* mean = constant(info, MEAN);
  const OrtValue* hash = constant(info, HASH);
  const OrtValue* sigma = constant(info, SIGMA);
  if (!anchors || !mean || !hash) refuse("anchors, mean and hash must be constants of the graph");
  const auto shape = expect("anchors", anchors, {-1, -1, -1}, "(heads, depth, anchors)");
  const int64_t heads = shape[0], depth = shape[1], count = shape[2];
  expect("mean", mean, {heads, 1, count}, "(heads, 1, anchors)");
  const int64_t bits = expect("hash", hash, {heads, count, -1}, "(heads, anchors, bits)")[2];
  if (bits > static_cast<int64_t>(MOST_BITS))
    refuse("a code has at most 32 bits; got " + std::to_string(bits));
  if (sigma) expect("sigma", sigma, {heads, 1, 1}, "(heads, 1, 1)");
  float beta = 0;
  check(api->KernelInfoGetAttribute_float(info, "beta", &beta));
  return std::make_unique<Attention>(heads, depth, count, bits, beta, data_of<float>(anchors),
                                     data_of<float>(mean), data_of<float>(hash),
                                     sigma ? data_of<float>(sigma) : nullptr);
}

const OrtValue* input(const OrtKernelContext* context, Input index) {
  const OrtValue* value = nullptr;
  check(api->KernelContext_GetInput(context, index, &value));
  return value;
}

struct Pass {
  const Attention& attention;
  const Batch& batch;
  void (*run)(const Attention&, const Batch&, size_t place);
};

// Runs a pass at all of its places, on the threads of the session.
void everywhere(const OrtKernelContext* context, Pass pass, size_t places) {
  const auto task = [](void* data, size_t place) {
    const Pass& pass = *static_cast<const Pass*>(data);
    pass.run(pass.attention, pass.batch, place);
  };
  check(api->KernelContext_ParallelFor(context, task, places, 0, &pass));
}

void attend(const Attention& a, OrtKernelContext* context) {
  const OrtValue* query_key = input(context, QUERY_KEY);
  const OrtValue* value = input(context, VALUE);
  const OrtValue* mask = input(context, MASK);
  if (!a.fixed_sigma && input(context, SIGMA)) refuse("sigma must be a constant of the graph");
  const auto shape = shape_of(query_key);
  const int64_t width = a.heads * a.depth;
  if (shape.size() != 3 || shape[2] != width)
    refuse("query_key must be (batch, tokens, " + std::to_string(width) + "); got " + words(shape));
  expect("value", value, shape, "of query_key's shape");
  if (mask) expect("mask", mask, {shape[0], shape[1]}, "(batch, tokens)");
  OrtValue* output = nullptr;
  check(api->KernelContext_GetOutput(context, 0, shape.data(), shape.size(), &output));
  if (shape[0] == 0 || shape[1] == 0) return;

  Batch batch(a, shape[0], shape[1]);
  batch.query_key = data_of<float>(query_key);
  batch.values = data_of<float>(value);
  batch.real = mask ? data_of<bool>(mask) : nullptr;
  batch.out = data_of<float>(output);
  const size_t pairs = batch.rows * a.heads, places = pairs * batch.blocks();
  everywhere(context, {a, batch, passes().bandwidth}, pairs);
  everywhere(context, {a, batch, passes().hash}, places);
  everywhere(context, {a, batch, passes().table}, pairs);
  everywhere(context, {a, batch, passes().mix}, places);
}

// What the operator answers about itself.
OrtCustomOp described() {
  OrtCustomOp op{};
  op.version = API_VERSION;
  op.GetName = [](const OrtCustomOp*) { return "BinarizedAttention"; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return INPUTS; };
  op.GetInputType = [](const OrtCustomOp*, size_t index) {
    return index == MASK ? ORT_BOOL : ORT_FLOAT;
  };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
    return index >= SIGMA ? ORT_OPTIONAL : ORT_REQUIRED;
  };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return ORT_MEM_DEFAULT; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetOutputType = [](const OrtCustomOp*, size_t) { return ORT_FLOAT; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return ORT_REQUIRED; };
  op.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info,
                         void** kernel) {
    return guarded([&] { *kernel = learned(info).release(); });
  };
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    return guarded([&] { attend(*static_cast<const Attention*>(kernel), context); });
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Attention*>(kernel); };
  return op;
}

OrtCustomOpDomain* domain() {
  static const OrtCustomOp op = described();
  OrtCustomOpDomain* made = nullptr;
  check(api->CreateCustomOpDomain("attar.native", &made));
  check(api->CustomOpDomain_Add(made, &op));
  return made;
}

}  // namespace

// What ONNX Runtime looks for in a library of operators.
extern "C" EXPORT OrtStatus* ORT_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                        const OrtApiBase* base) {
  api = base->GetApi(API_VERSION);
  if (!api) return nullptr;  // before 1.17: the operator stays unknown, and a graph with it fails
  return guarded([&] {
    static OrtCustomOpDomain* const ours = domain();  // sessions refer to it to their end
    check(api->AddCustomOpDomain(options, ours));
  });
}
