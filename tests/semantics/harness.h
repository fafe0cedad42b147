// A program of its own, so that sanitizers need nothing of the host process: `program IN OUT [threads]` runs the launches
// in the file IN and writes every array as it is afterwards to OUT.
//
// A launch in IN, all little endian: name (64 bytes), grid and block (6 x u32), step and first (2 x u64), number of
// arguments (u64), and for each argument its kind (u64: 0 value, 1 array, 2 null pointer), its size in bytes (u64) and
// its bytes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

static const size_t GUARD = 1 << 14;  // bytes on either side of an array that nothing may touch
static const unsigned char MARK = 0xA5;

static void need(bool fine, const char* what, const char* where) {
    if (fine) return;
    fprintf(stderr, "%s: %s\n", where, what);
    exit(3);
}

template <class T>
static T read(FILE* file) {
    T value;
    need(fread(&value, sizeof value, 1, file) == 1, "the file ends early", "harness");
    return value;
}

struct Argument {
    unsigned long long kind, size;
    unsigned char* memory;  // guard, array, guard; or the value
    void* pointer;
    unsigned char* content() { return kind == 1 ? memory + GUARD : memory; }
};

static Argument read_argument(FILE* file) {
    Argument a;
    a.kind = read<unsigned long long>(file);
    a.size = read<unsigned long long>(file);
    size_t guard = a.kind == 1 ? GUARD : 0, all = a.size + 2 * guard;
    a.memory = (unsigned char*)aligned_alloc(256, (all + 255) / 256 * 256 + 256);
    memset(a.memory, MARK, all);
    need(fread(a.content(), 1, a.size, file) == a.size, "the file ends early", "harness");
    a.pointer = a.kind == 1 ? a.content() : nullptr;
    if (guard) {
        ASAN_POISON_MEMORY_REGION(a.memory, guard);
        ASAN_POISON_MEMORY_REGION(a.content() + a.size, guard);
    }
    return a;
}

static void write_back(Argument& a, FILE* file, const char* kernel) {
    if (a.kind == 1) {
        ASAN_UNPOISON_MEMORY_REGION(a.memory, a.size + 2 * GUARD);
        for (size_t i = 0; i < GUARD; ++i)
            need(a.memory[i] == MARK && a.content()[a.size + i] == MARK, "writes outside an array", kernel);
        fwrite(a.content(), 1, a.size, file);
    }
    free(a.memory);
}

int main(int count, char** words) {
    FILE *in = fopen(words[1], "rb"), *out = fopen(words[2], "wb");
    need(in && out, "cannot open the files", "harness");
    bool at_once = count > 3 && !strcmp(words[3], "threads");
    char name[64];
    while (fread(name, 1, sizeof name, in) == sizeof name) {
        Launch launch = read<Launch>(in);
        std::vector<Argument> arguments(read<unsigned long long>(in));
        std::vector<void*> addresses;
        for (Argument& a : arguments) {
            a = read_argument(in);
            addresses.push_back(a.kind == 0 ? (void*)a.memory : (void*)&a.pointer);
        }
        auto entry = ENTRIES;
        while (entry->name && strcmp(entry->name, name)) ++entry;
        need(entry->name, "no such kernel", name);
        entry->run(launch, addresses.data(), at_once);
        for (Argument& a : arguments) write_back(a, out, name);
    }
    need(fclose(out) == 0, "cannot write the results", "harness");
    return 0;
}
