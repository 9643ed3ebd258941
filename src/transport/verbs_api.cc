#include "transport/verbs_api.h"

#include <dlfcn.h>

namespace shoal {
namespace {

#ifdef __APPLE__
constexpr const char* kLibrary = "librdma.dylib";
constexpr const char* kRemedy = "it comes with macOS 26.2, and RDMA is enabled from the recovery";
#else
constexpr const char* kLibrary = "libibverbs.so.1";
constexpr const char* kRemedy = "install the packages libibverbs1 and ibverbs-providers";
#endif

class Symbols {
 public:
  explicit Symbols(void* library) : library_(library) {}
  template <typename Function>
  void find(Function& function, const char* name, bool needed) {
    function = reinterpret_cast<Function>(::dlsym(library_, name));
    if (needed && function == nullptr && missing_ == nullptr) missing_ = name;
  }
  const char* missing() const { return missing_; }

 private:
  void* library_;
  const char* missing_ = nullptr;
};

}  // namespace

Result<VerbsApi> load_verbs_from(const char* library) {
  void* const handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return fail(ErrorCode::kUnsupported,
                "RDMA needs the library {}, which cannot be loaded ({}): {}, or use another kind "
                "of link",
                library, ::dlerror(), kRemedy);
  }
  VerbsApi api;
  Symbols symbols(handle);
  symbols.find(api.get_device_list, "ibv_get_device_list", true);
  symbols.find(api.free_device_list, "ibv_free_device_list", true);
  symbols.find(api.get_device_name, "ibv_get_device_name", true);
  symbols.find(api.open_device, "ibv_open_device", true);
  symbols.find(api.close_device, "ibv_close_device", true);
  symbols.find(api.query_port, "ibv_query_port", true);
  symbols.find(api.query_gid, "ibv_query_gid", true);
  symbols.find(api.alloc_pd, "ibv_alloc_pd", true);
  symbols.find(api.dealloc_pd, "ibv_dealloc_pd", true);
  symbols.find(api.reg_mr, "ibv_reg_mr", true);
  symbols.find(api.dereg_mr, "ibv_dereg_mr", true);
  symbols.find(api.create_cq, "ibv_create_cq", true);
  symbols.find(api.destroy_cq, "ibv_destroy_cq", true);
  symbols.find(api.create_qp, "ibv_create_qp", true);
  symbols.find(api.modify_qp, "ibv_modify_qp", true);
  symbols.find(api.destroy_qp, "ibv_destroy_qp", true);
  symbols.find(api.query_gid_ex, "_ibv_query_gid_ex", false);
  symbols.find(api.create_comp_channel, "ibv_create_comp_channel", false);
  symbols.find(api.destroy_comp_channel, "ibv_destroy_comp_channel", false);
  symbols.find(api.get_cq_event, "ibv_get_cq_event", false);
  symbols.find(api.ack_cq_events, "ibv_ack_cq_events", false);
  symbols.find(api.wc_status_str, "ibv_wc_status_str", false);
  if (symbols.missing() != nullptr) {
    return fail(ErrorCode::kUnsupported,
                "the RDMA library {} has no function {}: it is another library, or too old",
                library, symbols.missing());
  }
  return api;
}

Result<const VerbsApi*> load_verbs() {
  static const Result<VerbsApi> loaded = load_verbs_from(kLibrary);
  if (!loaded) return std::unexpected(loaded.error());
  return &*loaded;
}

}  // namespace shoal
