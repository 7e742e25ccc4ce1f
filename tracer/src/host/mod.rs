/*! The only folder that reads the machine: /proc, cgroups, namespaces, sysctls. */

pub mod cgroup;
pub mod cost;
pub mod dump;
pub mod netns;
pub mod process;
pub mod sock_diag;
pub mod sysctl;
