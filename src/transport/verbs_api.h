// VerbsApi: the functions of the RDMA library that links use, found at run time, so that a machine
// without RDMA needs no library and a test can bring its own table. The header is the library's
// (infiniband/verbs.h); what it defines inline (post, poll, arm) calls through the context's table
// of operations, which is part of the library's stable ABI. Private to this module and its tests;
// any thread. Why so: docs/adr/0007-rdma-library-at-run-time.md.
#pragma once

#include <infiniband/verbs.h>

#include "base/result.h"

namespace shoal {

struct VerbsApi {
  decltype(&::ibv_get_device_list) get_device_list = nullptr;
  decltype(&::ibv_free_device_list) free_device_list = nullptr;
  decltype(&::ibv_get_device_name) get_device_name = nullptr;
  decltype(&::ibv_open_device) open_device = nullptr;
  decltype(&::ibv_close_device) close_device = nullptr;
  decltype(&::ibv_query_port) query_port = nullptr;  // fills all but port_cap_flags2
  decltype(&::ibv_query_gid) query_gid = nullptr;
  decltype(&::ibv_alloc_pd) alloc_pd = nullptr;
  decltype(&::ibv_dealloc_pd) dealloc_pd = nullptr;
  decltype(&::ibv_reg_mr) reg_mr = nullptr;
  decltype(&::ibv_dereg_mr) dereg_mr = nullptr;
  decltype(&::ibv_create_cq) create_cq = nullptr;
  decltype(&::ibv_destroy_cq) destroy_cq = nullptr;
  decltype(&::ibv_create_qp) create_qp = nullptr;
  decltype(&::ibv_modify_qp) modify_qp = nullptr;
  decltype(&::ibv_destroy_qp) destroy_qp = nullptr;

  // May be missing. Without the type of a GID its form decides; without a channel waits are naps;
  // without names a status is a number.
  decltype(&::_ibv_query_gid_ex) query_gid_ex = nullptr;
  decltype(&::ibv_create_comp_channel) create_comp_channel = nullptr;
  decltype(&::ibv_destroy_comp_channel) destroy_comp_channel = nullptr;
  decltype(&::ibv_get_cq_event) get_cq_event = nullptr;
  decltype(&::ibv_ack_cq_events) ack_cq_events = nullptr;
  decltype(&::ibv_wc_status_str) wc_status_str = nullptr;

  bool has_channels() const {
    return create_comp_channel && destroy_comp_channel && get_cq_event && ack_cq_events;
  }
};

// The system's library, loaded once and never closed. kUnsupported: it is not there, or lacks a
// function.
Result<const VerbsApi*> load_verbs();
// The same from a library of that name. Loads it anew.
Result<VerbsApi> load_verbs_from(const char* library);

}  // namespace shoal
