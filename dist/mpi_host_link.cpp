#include <deque>
#include <exception>
#include <mpi.h>
#include <utility>

#include "dist/host_link.h"
#include "dist/mpi_error.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

constexpr int kNoticeTag = 0;
constexpr int kBytes = sizeof(Notice);

class MpiHostLink final : public HostLink {
 public:
  MpiHostLink(MpiSession& session, MpiTransportOptions options);
  ~MpiHostLink() override;
  MpiHostLink(const MpiHostLink&) = delete;
  MpiHostLink& operator=(const MpiHostLink&) = delete;

  [[nodiscard]] Transport& tensors() override { return *tensors_; }
  void post(Rank to, const Notice& notice) override;
  [[nodiscard]] std::optional<Arrival> poll() override;
  void while_waiting(std::function<void()> work) override { work_ = std::move(work); }
  void abort(int exit_code) noexcept override { tensors_->abort(exit_code); }

 private:
  struct Posted {
    Notice notice;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  void forget_sent();

  std::function<void()> work_;
  std::unique_ptr<Transport> tensors_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::deque<std::unique_ptr<Posted>> posted_;  // MPI holds their addresses
  int exceptions_ = std::uncaught_exceptions();
};

MpiHostLink::MpiHostLink(MpiSession& session, MpiTransportOptions options) {
  options.while_waiting = [this] {
    if (work_) work_();
  };
  tensors_ = make_mpi_transport(session, options);
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup", "start of the NCCL transport");
}

void MpiHostLink::post(Rank to, const Notice& notice) {
  Posted& posted = *posted_.emplace_back(std::make_unique<Posted>(Posted{.notice = notice}));
  check_mpi(
      MPI_Isend(&posted.notice, kBytes, MPI_BYTE, to.value, kNoticeTag, comm_, &posted.request),
      "MPI_Isend", concat("a notice to rank ", to));
  forget_sent();
}

void MpiHostLink::forget_sent() {
  while (!posted_.empty()) {
    int done = 0;
    check_mpi(MPI_Test(&posted_.front()->request, &done, MPI_STATUS_IGNORE), "MPI_Test",
              "a notice of the NCCL transport");
    if (done == 0) return;
    posted_.pop_front();
  }
}

std::optional<HostLink::Arrival> MpiHostLink::poll() {
  constexpr auto kWhere = "a notice of the NCCL transport";
  int here = 0;
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status = {};
  check_mpi(MPI_Improbe(MPI_ANY_SOURCE, kNoticeTag, comm_, &here, &message, &status), "MPI_Improbe",
            kWhere);
  if (here == 0) return std::nullopt;
  int bytes = 0;
  check_mpi(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count", kWhere);
  Arrival arrival{.from = Rank{status.MPI_SOURCE}, .notice = {}};
  if (bytes != kBytes) {
    throw TransportError({.what = concat("a notice of ", bytes, " bytes, not ", kBytes),
                          .where = concat("from rank ", arrival.from),
                          .fix = "start every rank with the same program"});
  }
  check_mpi(MPI_Mrecv(&arrival.notice, kBytes, MPI_BYTE, &message, MPI_STATUS_IGNORE), "MPI_Mrecv",
            kWhere);
  return arrival;
}

MpiHostLink::~MpiHostLink() {
  const bool unwinding = std::uncaught_exceptions() > exceptions_;
  if (!unwinding) {
    try {
      forget_sent();
    } catch (const TransportError&) {
      // Reported by whoever waited; here only memory is at stake, below.
    }
  }
  if (posted_.empty() && !unwinding) {
    MPI_Comm_free(&comm_);
    return;
  }
  // Memory that MPI may still read is left to it: a leak, but at the end of the process.
  for (auto& posted : posted_) (void)posted.release();
}

}  // namespace

std::unique_ptr<HostLink> make_mpi_host_link(MpiSession& session,
                                             const MpiTransportOptions& options) {
  return std::make_unique<MpiHostLink>(session, options);
}

}  // namespace lrq::dist
