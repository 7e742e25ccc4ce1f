/*! Where the running kernel keeps what the programs read. */

/// Value of a [`Layout`] field that the running kernel's BTF does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! layout {
    ($($(#[$doc:meta])* $field:ident = $path:literal,)*) => {
        /// Byte offsets of kernel struct members, read from the running
        /// kernel's BTF before load; never baked. A frozen read-only global.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Layout {
            $($(#[$doc])* pub $field: u32,)*
        }

        impl Layout {
            /// Every field with the `struct.member` it stands for (nested
            /// members separated by further dots), in order. Of several,
            /// separated by bars, the first that the kernel has.
            pub const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), $path),)*];

            /// All fields [`ABSENT`].
            pub const ABSENT: Self = Self { $($field: ABSENT,)* };

            /// Sets the field called `name`; false when there is none.
            pub fn set(&mut self, name: &str, offset: u32) -> bool {
                match name {
                    $(stringify!($field) => self.$field = offset,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

layout! {
    /// IPv4 destination, network order.
    skc_daddr = "sock_common.skc_daddr",
    /// IPv4 source, network order.
    skc_rcv_saddr = "sock_common.skc_rcv_saddr",
    /// Destination port, network order.
    skc_dport = "sock_common.skc_dport",
    /// Source port, host order; 0 after the port was put back.
    skc_num = "sock_common.skc_num",
    /// Address family.
    skc_family = "sock_common.skc_family",
    /// Bound interface.
    skc_bound_dev_if = "sock_common.skc_bound_dev_if",
    /// Namespace pointer.
    skc_net = "sock_common.skc_net",
    /// IPv6 destination.
    skc_v6_daddr = "sock_common.skc_v6_daddr",
    /// IPv6 source.
    skc_v6_rcv_saddr = "sock_common.skc_v6_rcv_saddr",
    /// TCP state.
    skc_state = "sock_common.skc_state",
    /// Back link of the chain of established sockets; null for one that is in none.
    skc_pprev = "sock_common.skc_node.pprev",
    /// Link in the chain of a bucket of the table of connections.
    skc_nulls = "sock_common.skc_nulls_node",
    /// Hash in that table.
    skc_hash = "sock_common.skc_hash",
    /// Flags of a socket.
    skc_flags = "sock_common.skc_flags",
    /// Socket cookie.
    skc_cookie = "sock_common.skc_cookie",
    /// Inode of a namespace.
    net_inum = "net.ns.inum",
    /// References to a namespace; 0 once it is being removed. Moved in Linux 5.11 and 6.18.
    net_count = "net.ns.__ns_ref|net.ns.count|net.count",
    /// The namespace's table of connections. A pointer lies between in Linux 5.18 to 6.0.
    net_hashinfo = "net.ipv4.tcp_death_row.hashinfo",
    /// Buckets of the table of connections.
    hashinfo_ehash = "inet_hashinfo.ehash",
    /// Their number less one.
    hashinfo_mask = "inet_hashinfo.ehash_mask",
    /// Chain of a bucket.
    bucket_chain = "inet_ehash_bucket.chain",
    /// `IPPROTO_TCP` or another.
    sk_protocol = "sock.sk_protocol",
    /// Pending error, positive.
    sk_err = "sock.sk_err",
    /// Directions that are shut.
    sk_shutdown = "sock.sk_shutdown",
    /// Source port in network order; stays after the port was put back.
    inet_sport = "inet_sock.inet_sport",
    /// Bind bucket of the source port.
    icsk_bind_hash = "inet_connection_sock.icsk_bind_hash",
    /// -1 when connect() made the bucket.
    tb_fastreuse = "inet_bind_bucket.fastreuse",
    /// Segments in flight.
    packets_out = "tcp_sock.packets_out",
    /// Bytes the peer acknowledged, the SYN among them.
    bytes_acked = "tcp_sock.bytes_acked",
    /// FIN_WAIT2 timeout of the socket, -1 for none.
    linger2 = "tcp_sock.linger2",
    /// Substate of a TIME_WAIT socket.
    tw_substate = "inet_timewait_sock.tw_substate",
    /// Source port of a TIME_WAIT socket, network order.
    tw_sport = "inet_timewait_sock.tw_sport",
    /// Timer of a TIME_WAIT socket.
    tw_timer = "inet_timewait_sock.tw_timer",
    /// Handler of a timer.
    timer_function = "timer_list.function",
    /// When a timer runs out, jiffies.
    timer_expires = "timer_list.expires",
    /// Group leader of a task.
    task_group_leader = "task_struct.group_leader",
    /// Start of a task, ns of CLOCK_BOOTTIME.
    task_start_boottime = "task_struct.start_boottime",
    /// Thread id of a task.
    task_pid = "task_struct.pid",
    /// Process id of a task.
    task_tgid = "task_struct.tgid",
    /// Name of a task.
    task_comm = "task_struct.comm",
    /// Open files of a task.
    task_files = "task_struct.files",
    /// File table.
    files_fdt = "files_struct.fdt",
    /// Array of files.
    fdt_fd = "fdtable.fd",
    /// Size of that array.
    fdt_max_fds = "fdtable.max_fds",
    /// The socket of a file.
    file_private_data = "file.private_data",
    /// The sock of a socket.
    socket_sk = "socket.sk",
    /// Number of the system call (x86-64).
    regs_number = "pt_regs.orig_ax",
    /// First argument of the system call (x86-64).
    regs_first = "pt_regs.di",
    /// Second argument of the system call (x86-64).
    regs_second = "pt_regs.si",
}
