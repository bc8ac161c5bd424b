// The few parts of ONNX Runtime's C API that an operator of our own needs.
//
// ONNX Runtime's wheel has no headers. Its API is a table of functions that is only ever appended
// to, so a place in it is a promise. Places, signatures and the layout of OrtCustomOp are those of
// include/onnxruntime/core/session/onnxruntime_c_api.h in github.com/microsoft/onnxruntime, whose
// names are kept. Version 17 is the first with KernelContext_ParallelFor; any later one gives it.

#pragma once

#include <cstddef>
#include <cstdint>

#ifdef _WIN32
#define ORT_CALL __stdcall
#else
#define ORT_CALL
#endif

constexpr uint32_t API_VERSION = 17;

struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;  // null is success
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

enum OrtErrorCode : int { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum OrtElementType : int { ORT_FLOAT = 1, ORT_BOOL = 9 };
enum OrtMemType : int { ORT_MEM_DEFAULT = 0 };
enum OrtCharacteristic : int { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };

struct OrtCustomOp;

struct OrtApi {
  OrtStatus*(ORT_CALL* CreateStatus)(OrtErrorCode, const char* message);
  void* places_1_to_25[25];
  OrtStatus*(ORT_CALL* CreateCustomOpDomain)(const char* name, OrtCustomOpDomain**);
  OrtStatus*(ORT_CALL* CustomOpDomain_Add)(OrtCustomOpDomain*, const OrtCustomOp*);
  OrtStatus*(ORT_CALL* AddCustomOpDomain)(OrtSessionOptions*, OrtCustomOpDomain*);
  void* places_29_to_50[22];
  OrtStatus*(ORT_CALL* GetTensorMutableData)(OrtValue*, void** data);
  void* places_52_to_60[9];
  OrtStatus*(ORT_CALL* GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t* rank);
  OrtStatus*(ORT_CALL* GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t rank);
  void* places_63_to_64[2];
  OrtStatus*(ORT_CALL* GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);
  void* places_66_to_84[19];
  OrtStatus*(ORT_CALL* KernelInfoGetAttribute_float)(const OrtKernelInfo*, const char*, float*);
  void* places_86_to_89[4];
  OrtStatus*(ORT_CALL* KernelContext_GetInput)(const OrtKernelContext*, size_t, const OrtValue**);
  OrtStatus*(ORT_CALL* KernelContext_GetOutput)(OrtKernelContext*, size_t index,
                                                const int64_t* shape, size_t rank, OrtValue**);
  void* places_92_to_98[7];
  void(ORT_CALL* ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);
  void* places_100_to_248[149];
  OrtStatus*(ORT_CALL* KernelInfoGetConstantInput_tensor)(const OrtKernelInfo*, size_t index,
                                                          int* is_constant, const OrtValue**);
  void* places_250_to_273[24];
  // Calls `task` with 0 to total - 1 on the session's own threads; 0 batches leaves it to them.
  OrtStatus*(ORT_CALL* KernelContext_ParallelFor)(const OrtKernelContext*,
                                                  void (*task)(void* data, size_t), size_t total,
                                                  size_t batches, void* data);
};

static_assert(offsetof(OrtApi, CreateCustomOpDomain) == 26 * sizeof(void*));
static_assert(offsetof(OrtApi, GetTensorMutableData) == 51 * sizeof(void*));
static_assert(offsetof(OrtApi, GetDimensionsCount) == 61 * sizeof(void*));
static_assert(offsetof(OrtApi, GetTensorTypeAndShape) == 65 * sizeof(void*));
static_assert(offsetof(OrtApi, KernelInfoGetAttribute_float) == 85 * sizeof(void*));
static_assert(offsetof(OrtApi, KernelContext_GetInput) == 90 * sizeof(void*));
static_assert(offsetof(OrtApi, ReleaseTensorTypeAndShapeInfo) == 99 * sizeof(void*));
static_assert(offsetof(OrtApi, KernelInfoGetConstantInput_tensor) == 249 * sizeof(void*));
static_assert(offsetof(OrtApi, KernelContext_ParallelFor) == 274 * sizeof(void*));

struct OrtApiBase {
  const OrtApi*(ORT_CALL* GetApi)(uint32_t version);  // null when that version is not known
  const char*(ORT_CALL* GetVersionString)();
};

// What an operator answers when it is asked about itself; version 17 reads this far.
struct OrtCustomOp {
  uint32_t version;
  void*(ORT_CALL* CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char*(ORT_CALL* GetName)(const OrtCustomOp*);
  const char*(ORT_CALL* GetExecutionProviderType)(const OrtCustomOp*);
  OrtElementType(ORT_CALL* GetInputType)(const OrtCustomOp*, size_t index);
  size_t(ORT_CALL* GetInputTypeCount)(const OrtCustomOp*);
  OrtElementType(ORT_CALL* GetOutputType)(const OrtCustomOp*, size_t index);
  size_t(ORT_CALL* GetOutputTypeCount)(const OrtCustomOp*);
  void(ORT_CALL* KernelCompute)(void* kernel, OrtKernelContext*);
  void(ORT_CALL* KernelDestroy)(void* kernel);
  OrtCharacteristic(ORT_CALL* GetInputCharacteristic)(const OrtCustomOp*, size_t index);
  OrtCharacteristic(ORT_CALL* GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
  OrtMemType(ORT_CALL* GetInputMemoryType)(const OrtCustomOp*, size_t index);
  int(ORT_CALL* GetVariadicInputMinArity)(const OrtCustomOp*);
  int(ORT_CALL* GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int(ORT_CALL* GetVariadicOutputMinArity)(const OrtCustomOp*);
  int(ORT_CALL* GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus*(ORT_CALL* CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*,
                                       void** kernel);
  OrtStatus*(ORT_CALL* KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus*(ORT_CALL* InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int(ORT_CALL* GetStartVersion)(const OrtCustomOp*);
  int(ORT_CALL* GetEndVersion)(const OrtCustomOp*);
};
