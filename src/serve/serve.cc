#include "serve/serve.h"

#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "base/cpu.h"
#include "base/log.h"
#include "base/units.h"
#include "kernels/probe.h"
#include "serve/api_backend.h"
#include "serve/routes.h"

namespace shoal::serve {
namespace {

constexpr double kProbeSeconds = 0.3;
constexpr std::chrono::milliseconds kSweepEvery{250};
constexpr int kListEverySweeps = 20;
constexpr size_t kBlockingThreads = 4;

std::string host_name() {
  char name[256] = "node";
  ::gethostname(name, sizeof name - 1);
  return name;
}

// Of "127.0.0.1:7465" or "[::1]:7465".
std::string host_of(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return host;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Result<NodeFacts> measure(const ServeOptions& options) {
  NodeFacts facts;
  facts.name = options.name.empty() ? host_name() : options.name;
  SHOAL_ASSIGN(const Isa isa, choose_isa(options.isa));
  facts.isa = isa_name(isa);
  facts.cores = usable_core_count();
  facts.threads = options.threads > 0 ? options.threads : facts.cores;
  const uint64_t total = memory_total_bytes();
  // A tenth stays for the system and what else runs, unless the owner says exactly how much.
  facts.memory_bytes =
      options.memory_bytes ? std::min(*options.memory_bytes, total) : total / 10 * 9;
  const ProbeResult probe = probe_machine(isa, facts.threads, kProbeSeconds);
  facts.read_bytes_per_s = probe.read_bytes_per_s;
  facts.decode_bytes_per_s = probe.decode_bytes_per_s;
  facts.multiply_adds_per_s = probe.multiply_adds_per_s;
  facts.float_multiply_adds_per_s = probe.float_multiply_adds_per_s;
  return facts;
}

Status check_options(const ServeOptions& options) {
  if (options.api_key.empty() && !is_loopback(host_of(options.listen))) {
    return fail(ErrorCode::kInvalidArgument,
                "--listen {} is open to other machines, so it needs a key: set SHOAL_API_KEY or "
                "--api-key, or listen on 127.0.0.1",
                options.listen);
  }
  return make_directories(options.home);
}

// Everything of a running daemon, in the order in which it is built.
class Daemon {
 public:
  Daemon(const ServeOptions& options, std::unique_ptr<Store> store,
         std::unique_ptr<cluster::NodeService> node, asio::io_context& loop,
         asio::thread_pool& pool)
      : options_(options),
        loop_(loop),
        store_(std::move(store)),
        node_(std::move(node)),
        context_{loop, pool, options_, *store_, *node_},
        shards_(context_),
        instances_(context_, shards_),
        router_(context_, shards_, instances_),
        backend_(context_, router_) {}

  Status open() {
    api::ApiOptions api_options;
    api_options.listen_host = host_of(options_.listen);
    api_options.api_key = options_.api_key;
    api_ = std::make_unique<api::Api>(backend_, api_options);
    SHOAL_ASSIGN(api_server_, http::listen_tcp(loop_, options_.listen,
                                               [this](http::Exchange& exchange) -> Task<void> {
                                                 co_await api_->handle(exchange);
                                               }));
    const std::string api_address = fmt::format(
        "{}:{}", options_.listen.substr(0, options_.listen.rfind(':')), api_server_->port());
    routes_ = std::make_unique<Routes>(context_, shards_, instances_, router_, api_address);
    SHOAL_ASSIGN(admin_server_,
                 http::listen_unix(loop_, options_.home + "/shoal.sock",
                                   [this](http::Exchange& exchange) -> Task<void> {
                                     if (exchange.request().path.starts_with("/admin/")) {
                                       co_await routes_->admin(exchange);
                                     } else {
                                       co_await api_->handle(exchange);
                                     }
                                   }));
    node_->route("/control/", [this](http::Exchange& exchange) -> Task<void> {
      co_await routes_->control(exchange);
    });
    node_->on_data_link([this](const LinkPreamble& preamble, UniqueFd socket) {
      shards_.pass_link(preamble, std::move(socket));
    });
    asio::co_spawn(loop_, sweep(), asio::detached);
    log::info("API on http://{}, cluster on port {}, node {} ({})", api_address, node_->port(),
              node_->facts().name, node_->id().substr(0, 16));
    return {};
  }

  // Lets workers leave before the loop ends.
  Task<void> close() {
    instances_.stop_all();
    api_server_->close();
    co_await sleep_for(loop_, std::chrono::milliseconds(300));
    loop_.stop();
  }

 private:
  Task<void> sweep() {
    for (int round = 0;; ++round) {
      if (round % kListEverySweeps == 0) {
        Store& store = *store_;
        const auto list = [&store] { return store.list(); };
        Result<std::vector<ModelFile>> files = co_await offload(context_.pool, list);
        if (files) backend_.set_on_disk(std::move(*files));
      }
      shards_.sweep();
      publish();
      co_await shards_.changed().wait(Clock::now() + kSweepEvery);
    }
  }

  void publish() {
    Json models = Json::array();
    for (const ModelFile& file : backend_.on_disk()) {
      if (file.sha256.empty()) continue;  // nobody could ask for it
      models.push_back(
          {{"name", file.name}, {"sha256", file.sha256}, {"size_bytes", file.size_bytes}});
    }
    node_->set_local_state({{"instances", instances_.published()},
                            {"shards", shards_.published()},
                            {"models", std::move(models)}});
  }

  const ServeOptions& options_;
  asio::io_context& loop_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<cluster::NodeService> node_;
  Context context_;
  LocalShards shards_;
  Instances instances_;
  Router router_;
  DaemonApi backend_;
  std::unique_ptr<api::Api> api_;
  std::unique_ptr<Routes> routes_;
  std::unique_ptr<http::Server> api_server_;
  std::unique_ptr<http::Server> admin_server_;
};

// An ephemeral daemon ends when the process that started it closes its pipe.
Task<void> end_with_parent(asio::io_context& loop, std::function<void()> end) {
  asio::posix::stream_descriptor input(loop, ::dup(STDIN_FILENO));
  char byte;
  boost::system::error_code error;
  do {
    co_await input.async_read_some(asio::buffer(&byte, 1),
                                   asio::redirect_error(asio::use_awaitable, error));
  } while (!error);
  end();
}

Status run(const ServeOptions& options) {
  SHOAL_TRY(check_options(options));
  SHOAL_ASSIGN(const NodeFacts facts, measure(options));
  SHOAL_ASSIGN(std::unique_ptr<Store> store, Store::open(options.home));
  asio::io_context loop(1);
  asio::thread_pool pool(kBlockingThreads);

  cluster::NodeServiceOptions node_options;
  node_options.home = options.home;
  node_options.cluster_listen = options.cluster_listen;
  node_options.peers = options.peers;
  node_options.node_name = options.name;
  SHOAL_ASSIGN(std::unique_ptr<cluster::NodeService> node,
               cluster::NodeService::start(loop, node_options, facts));
  if (!options.link_mode.empty()) {
    SHOAL_ASSIGN(const LinkMode mode, link_mode_named(options.link_mode));
    if (mode != node->link_mode()) SHOAL_TRY(node->set_link_mode(mode));
  }
  Daemon daemon(options, std::move(store), std::move(node), loop, pool);
  SHOAL_TRY(daemon.open());

  const auto end = [&loop, &daemon] { asio::co_spawn(loop, daemon.close(), asio::detached); };
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  signals.async_wait([&](boost::system::error_code error, int) {
    if (!error) end();
  });
  if (options.ephemeral) asio::co_spawn(loop, end_with_parent(loop, end), asio::detached);
  loop.run();
  log::info("the daemon ends");
  return {};
}

}  // namespace

int serve_main(const ServeOptions& options) {
  start_logging("serve", options.quiet);
  std::signal(SIGPIPE, SIG_IGN);
  const Status status = run(options);
  if (status) return 0;
  fmt::print(stderr, "shoal: {}\n", status.error().message);
  return exit_code(status.error().code);
}

}  // namespace shoal::serve
