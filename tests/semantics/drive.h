// Runs kernels as a GPU would, one thread after the other in any order, and says what their parameters are.

// A launch. Thread number (step * n + first) % total comes n-th: step 1, first 0 is the natural order, step and first
// total - 1 the reverse one, any other step that has no divisor in common with total a shuffled one.
struct Launch {
    unsigned grid[3], block[3];
    unsigned long long step, first;
};

template <class T>
struct TypeName;
#define TYPE_NAME(type, name) \
    template <> \
    struct TypeName<type> { \
        static constexpr const char* value = name; \
        static constexpr const char* pointer = name "*"; \
        static constexpr const char* pointer_to_const = "const " name "*"; \
    };
TYPE_NAME(bool, "bool")
TYPE_NAME(unsigned char, "uint8")
TYPE_NAME(unsigned short, "uint16")
TYPE_NAME(int, "int32")
TYPE_NAME(unsigned, "uint32")
TYPE_NAME(long, "int64")
TYPE_NAME(unsigned long, "uint64")
TYPE_NAME(float, "float32")
TYPE_NAME(double, "float64")
template <class T>
struct TypeName<T*> {
    static constexpr const char* value = TypeName<T>::pointer;
};
template <class T>
struct TypeName<const T*> {
    static constexpr const char* value = TypeName<T>::pointer_to_const;
};

static unsigned long long threads_of(const Launch& launch) {
    unsigned long long count = 1;
    for (int axis = 0; axis < 3; ++axis) count *= (unsigned long long)launch.grid[axis] * launch.block[axis];
    return count;
}

// Make this thread the launch's thread number t.
static void become(const Launch& launch, unsigned long long t) {
    const unsigned *g = launch.grid, *b = launch.block;
    unsigned long long inside = (unsigned long long)b[0] * b[1] * b[2], block = t / inside, thread = t % inside;
    gridDim = {g[0], g[1], g[2]};
    blockDim = {b[0], b[1], b[2]};
    blockIdx = {(unsigned)(block % g[0]), (unsigned)(block / g[0] % g[1]), (unsigned)(block / g[0] / g[1])};
    threadIdx = {(unsigned)(thread % b[0]), (unsigned)(thread / b[0] % b[1]), (unsigned)(thread / b[0] / b[1])};
}

// One after the other. `arguments` are addresses of values, as cuLaunchKernel takes them.
template <class... P, size_t... I>
void run_in_order(void (*kernel)(P...), const Launch& launch, void* const* arguments, std::index_sequence<I...>) {
    unsigned long long total = threads_of(launch);
    for (unsigned long long n = 0; n < total; ++n) {
        become(launch, (launch.step * n + launch.first) % total);
        kernel(*(P*)arguments[I]...);
    }
}

// Each in a thread of its own and all at once, for ThreadSanitizer.
template <class... P, size_t... I>
void run_at_once(void (*kernel)(P...), const Launch& launch, void* const* arguments, std::index_sequence<I...>) {
    std::vector<std::thread> threads;
    for (unsigned long long t = 0; t < threads_of(launch); ++t)
        threads.emplace_back([&, t] {
            become(launch, t);
            kernel(*(P*)arguments[I]...);
        });
    for (std::thread& thread : threads) thread.join();
}

template <class... P>
void run(void (*kernel)(P...), const Launch& launch, void* const* arguments, bool at_once) {
    if (at_once)
        run_at_once(kernel, launch, arguments, std::index_sequence_for<P...>());
    else
        run_in_order(kernel, launch, arguments, std::index_sequence_for<P...>());
}

template <class... P>
const char* const* types(void (*)(P...)) {
    static const char* const names[] = {TypeName<P>::value..., nullptr};
    return names;
}

// For each kernel: what runs it, and its parameters' types as the compiler sees them, ended by a null pointer.
#define DRIVER(name) \
    extern "C" void drive_##name(const Launch* launch, void* const* arguments) { run(name, *launch, arguments, false); } \
    extern "C" const char* const* types_##name() { return types(name); } \
    static void entry_##name(const Launch& l, void* const* a, bool at_once) { run(name, l, a, at_once); }
#define ENTRY(name) {#name, entry_##name},
