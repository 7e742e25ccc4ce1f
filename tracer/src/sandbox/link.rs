/*! The netlink side of a pair: veth, addresses, neighbours. */

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};

use crate::exit::NotAllowed;

/// The interface's name, on both sides.
pub(super) const INTERFACE: &str = "veth0";

/// A link-layer address nobody has: frames to it are dropped by the receiver.
const NOBODY: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// Makes the veth in this thread's namespace and moves its other end to `peer`.
pub(super) fn connect(peer: BorrowedFd<'_>) -> anyhow::Result<()> {
    // Made under another name, as both ends first lie in this namespace.
    const MOVING: &str = "veth1";
    let peer = peer.as_raw_fd();
    with_netlink(async |netlink| {
        let made = netlink
            .link()
            .add(LinkVeth::new(INTERFACE, MOVING).build())
            .execute()
            .await;
        made.map_err(io_error).map_err(explain_veth)?;
        let index = index_of(MOVING)?;
        let message = LinkUnspec::new_with_index(index)
            .name(INTERFACE)
            .setns_by_fd(peer)
            .build();
        netlink
            .link()
            .set(message)
            .execute()
            .await
            .map_err(io_error)
            .context("cannot move the veth into the other network namespace")?;
        Ok(())
    })
}

/// Gives this thread's end of the veth its addresses and sets it up.
/// Duplicate address detection is off, so IPv6 works at once.
pub(super) fn configure(addresses: &[(IpAddr, u8)]) -> anyhow::Result<()> {
    with_netlink(async |netlink| {
        let index = index_of(INTERFACE)?;
        for &(address, prefix) in addresses {
            let mut request = netlink.address().add(index, address, prefix);
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
            request
                .execute()
                .await
                .map_err(io_error)
                .with_context(|| format!("cannot add {address}/{prefix} to the veth"))?;
        }
        netlink
            .link()
            .set(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .map_err(io_error)
            .context("cannot set the veth up")
    })
}

/// Makes `address` one that never answers: its neighbour is known, and nobody.
pub(super) fn silence(address: Ipv4Addr) -> anyhow::Result<()> {
    with_netlink(async |netlink| {
        netlink
            .neighbours()
            .add(index_of(INTERFACE)?, IpAddr::V4(address))
            .state(NeighbourState::Permanent)
            .link_layer_address(&NOBODY)
            .execute()
            .await
            .map_err(io_error)
            .with_context(|| format!("cannot add a neighbour for {address}"))
    })
}

fn index_of(name: &str) -> anyhow::Result<u32> {
    if_nametoindex(name).with_context(|| format!("the interface {name} is missing"))
}

fn with_netlink<T>(work: impl AsyncFnOnce(Handle) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot start the netlink reader")?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        work(handle).await
    })
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn explain_veth(error: io::Error) -> anyhow::Error {
    let refused = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => {
            "cannot create a veth pair: operation not permitted; this needs CAP_NET_ADMIN, \
             run it as root (sudo)"
        }
        Some(Errno::EOPNOTSUPP) => {
            "cannot create a veth pair: this kernel does not know the type; load the module \
             with `modprobe veth`, or use a kernel built with CONFIG_VETH"
        }
        _ => return anyhow::Error::new(error).context("cannot create a veth pair"),
    };
    NotAllowed(refused.to_owned()).into()
}
