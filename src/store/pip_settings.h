// Where this machine gets Python packages from, found out the way pip itself does: its environment
// variables, its configuration files, else what the installed pip has built in. Shoal names no
// registry of its own. find_pip_settings starts pip as a child (about half a second); the rest is
// pure. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/http_transfer.h"

namespace shoal {

struct PipSettings {
  std::vector<std::string>
      indexes;  // simple indexes, in the order to ask; with credentials if the settings hold any
  std::vector<std::string> find_links;  // folders that may hold wheels
  std::string ca_file;
  bool no_index = false;
};

// kNotFound with what to install or set when this machine has neither settings nor pip.
Result<PipSettings> find_pip_settings(CancelFlag cancel);

// Adds what `pip config list` printed ("global.index-url='https://...'").
void read_pip_config_list(std::string_view printed, PipSettings& settings);
// Adds what a pip.conf holds.
void read_pip_conf(std::string_view text, PipSettings& settings);

}  // namespace shoal
