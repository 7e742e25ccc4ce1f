/*! Throwaway network namespaces and real failing workloads, for `tracer demo` and the tests. */
