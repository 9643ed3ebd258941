// `shoal bench ranks MODEL --listen`: waits for another machine's bench and runs one of its ranks,
// of this machine's own copy of the model, until interrupted. Orders come from whoever proves the
// code's token; even those name no file, no program and no more memory than is free. Everything on
// one thread, which must outlive the listener, but for handshakes and dialling, which have threads
// of their own for 2 s each.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "cli/machine_code.h"

namespace shoal::cli {

struct RankListenerOptions {
  std::string model_path;
  std::string address;  // "10.0.0.2:7470"; port 0: any that is free
  int threads = 0;      // of its rank; 0: all usable cores
  std::string isa;
};

class RankListener {
 public:
  using Say = std::function<void(const std::string& sentence)>;  // for people

  // kInvalidArgument for an address that is none, or is everybody's; kConflict when it is in use.
  static Result<std::unique_ptr<RankListener>> start(RankListenerOptions options, Say say);
  ~RankListener();
  const MachineCode& code() const;
  // Until `carry_on`, asked ten times a second, says no.
  void run(const std::function<bool()>& carry_on);

 private:
  struct State;
  explicit RankListener(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace shoal::cli
