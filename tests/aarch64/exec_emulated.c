// Preloaded into a program that QEMU's user emulation runs where the kernel has not been told
// (binfmt_misc) to run programs of its architecture. There the emulator hands a call to execute a
// program on to the kernel, which refuses, and "/proc/self/exe" would be the emulator itself. This
// starts the emulator again instead, with the same program. EMULATOR, SYSROOT and PRELOADED come
// from CMake.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

enum { kMostArguments = 256, kMostVariables = 1024 };

struct Words {
  char program[PATH_MAX];
  char* all[kMostArguments];
  char* environment[kMostVariables];  // without what the emulator itself would take for its own
};

// Whether the call is to be changed; then `words` are what to execute.
static int emulated(const char* path, char* const arguments[], char* const environment[],
                    struct Words* words) {
  static const char* const first[] = {
      EMULATOR, "-cpu", "max", "-L", SYSROOT, "-E", "LD_PRELOAD=" PRELOADED};
  const int count = sizeof first / sizeof *first;
  if (strcmp(path, "/proc/self/exe") != 0) return 0;
  // The emulator answers with the program's name.
  const ssize_t length = readlink(path, words->program, sizeof words->program - 1);
  if (length < 0) return 0;
  words->program[length] = 0;
  memset(words->all, 0, sizeof words->all);
  for (int i = 0; i < count; ++i) words->all[i] = (char*)first[i];
  words->all[count] = words->program;
  for (int i = 1; arguments[i] != NULL && count + i < kMostArguments - 1; ++i)
    words->all[count + i] = arguments[i];
  int kept = 0;
  for (int i = 0; environment[i] != NULL && kept < kMostVariables - 1; ++i) {
    if (strncmp(environment[i], "LD_PRELOAD=", 11) != 0)
      words->environment[kept++] = environment[i];
  }
  words->environment[kept] = NULL;
  return 1;
}

int execve(const char* path, char* const arguments[], char* const environment[]) {
  int (*next)(const char*, char* const[], char* const[]) = dlsym(RTLD_NEXT, "execve");
  struct Words words;
  if (!emulated(path, arguments, environment, &words)) return next(path, arguments, environment);
  return next(EMULATOR, words.all, words.environment);
}

int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const arguments[],
                char* const environment[]) {
  int (*next)(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
              char* const[], char* const[]) = dlsym(RTLD_NEXT, "posix_spawn");
  struct Words words;
  if (!emulated(path, arguments, environment, &words))
    return next(pid, path, actions, attributes, arguments, environment);
  return next(pid, EMULATOR, actions, attributes, words.all, words.environment);
}
