#include "kernels/unit_claims.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "base/thread_pool.h"

namespace shoal::kernels {
namespace {

TEST(UnitClaims, EveryUnitIsTakenOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const int64_t units : {0, 1, 2, 7, 16, 129, 1000}) {
      for (const int64_t piece : {1, 4, 16, 2000}) {
        UnitClaims claims(units, piece, pool.thread_count());
        std::vector<std::vector<int>> taken(static_cast<size_t>(pool.thread_count()),
                                            std::vector<int>(static_cast<size_t>(units)));
        const auto job = [&](int index) {
          claims.take(index, [&](int64_t begin, int64_t end) {
            ASSERT_LT(begin, end);
            for (int64_t unit = begin; unit < end; ++unit)
              ++taken[static_cast<size_t>(index)][static_cast<size_t>(unit)];
          });
        };
        pool.run(std::ref(job));
        for (size_t unit = 0; unit < static_cast<size_t>(units); ++unit) {
          int count = 0;
          for (const auto& one : taken) count += one[unit];
          EXPECT_EQ(count, 1) << "unit " << unit << " of " << units << ", " << threads
                              << " threads";
        }
      }
    }
  }
}

}  // namespace
}  // namespace shoal::kernels
