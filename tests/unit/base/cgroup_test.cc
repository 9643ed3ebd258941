#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace shoal {
namespace {

// A file system of a few files, standing for /proc and /sys.
class Cgroup : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) /
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_.string() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  CgroupMemory read() { return cgroup_memory(root_.string()); }
  std::filesystem::path root_;
};

TEST_F(Cgroup, WithoutGroupsNothingLimits) {
  EXPECT_EQ(read().limit_bytes, UINT64_MAX);
  EXPECT_EQ(read().available_bytes, UINT64_MAX);
}

TEST_F(Cgroup, Version2TakesTheTightestAncestor) {
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/proc/self/mountinfo",
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  write("/sys/fs/cgroup/a/b/memory.current", "100\n");
  write("/sys/fs/cgroup/a/memory.max", "1800000000\n");
  write("/sys/fs/cgroup/a/memory.high", "max\n");
  write("/sys/fs/cgroup/a/memory.current", "700000000\n");
  write("/sys/fs/cgroup/a/memory.stat",
        "anon 400000000\ninactive_file 200000000\nactive_file 50000000\n");
  EXPECT_EQ(read().limit_bytes, 1800000000u);
  EXPECT_EQ(read().available_bytes, 1800000000u - 450000000u);
  write("/sys/fs/cgroup/a/b/memory.high", "500000000\n");
  EXPECT_EQ(read().limit_bytes, 500000000u);
  EXPECT_EQ(read().available_bytes, 500000000u - 100u);
}

TEST_F(Cgroup, Version1BesideAnEmptyVersion2) {
  write("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/jobs/7\n0::/\n");
  write("/proc/self/mountinfo",
        "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "31 24 0:27 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,cpu,memory\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "1000000\n");
  write("/sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes", "900000\n");
  write("/sys/fs/cgroup/memory/jobs/7/memory.stat",
        "inactive_file 1\ntotal_inactive_file 300000\ntotal_active_file 0\n");
  EXPECT_EQ(read().limit_bytes, 1000000u);
  EXPECT_EQ(read().available_bytes, 400000u);
}

TEST_F(Cgroup, AContainerSeesItsPartOfTheHierarchy) {
  write("/proc/self/cgroup", "4:memory:/docker/abc/inner\n");
  write("/proc/self/mountinfo",
        "31 24 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  write("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "5000\n");
  write("/sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "6000\n");
  EXPECT_EQ(read().limit_bytes, 5000u);
  EXPECT_EQ(read().available_bytes, 0u);
}

TEST_F(Cgroup, NonsenseLimitsNothing) {
  write("/proc/self/cgroup", "no colon\n:\n0::/../../x\n");
  write("/proc/self/mountinfo", "garbage\n - \n30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
  write("/cg/memory.max", "lots\n");
  EXPECT_EQ(read().limit_bytes, UINT64_MAX);
}

}  // namespace
}  // namespace shoal
