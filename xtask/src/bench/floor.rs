//! The kernel's floor: the least a container start can cost, without cgroups, seccomp or clean-up.
//! It is measured as the engines are, each sample after theirs: from cold.
//!
//! From cold: `clone3` with all namespaces, an overlay root, `/proc`, `/dev`, `/sys`, `pivot_root` and
//! the exec of a static program; with `NEWNET` also loopback up, and for the bridge row a veth pair,
//! an address and a default route.

use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::fs::{FileType, Mode, mkdirat, mknodat, symlinkat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::ThreadNameSpaceType as Namespace;
use wharf_sys::clone::clone_process;
use wharf_sys::mount::{attach_at, new_filesystem};
use wharf_sys::overlay::Overlay;

const BRIDGE: &str = "floor0";

/// What the measurement needs.
pub(crate) struct Floor<'a> {
    folder: &'a Path,
    root: PathBuf,
    netlink: Netlink,
    count: usize,
}

impl<'a> Floor<'a> {
    pub(crate) fn new(folder: &'a Path) -> Result<Self, String> {
        let root = folder.join("floor-root");
        std::fs::create_dir_all(root.join("bin")).map_err(|error| error.to_string())?;
        for directory in ["proc", "dev", "sys"] {
            std::fs::create_dir_all(root.join(directory)).map_err(|error| error.to_string())?;
        }
        std::fs::copy("/bin/busybox", root.join("bin/true")).map_err(|error| error.to_string())?;
        let mut netlink = Netlink::open()?;
        netlink.add_bridge()?;
        Ok(Self {
            folder,
            root,
            netlink,
            count: 0,
        })
    }

    /// Milliseconds of one start.
    pub(crate) fn time(&mut self, network: Network) -> Result<f64, String> {
        self.count += 1;
        let scratch = self.folder.join(format!("floor-{}", self.count));
        let begin = Instant::now();
        start(&self.root, &scratch, network, &mut self.netlink, self.count)?;
        let time = begin.elapsed().as_secs_f64() * 1000.0;
        drop(std::fs::remove_dir_all(&scratch));
        Ok(time)
    }

    pub(crate) fn end(mut self) -> Result<(), String> {
        self.netlink.delete_bridge()
    }
}

/// As the engines' `--network`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Network {
    Host,
    Empty,
    Bridge,
}

/// One start, until the program has exited and is collected.
fn start(
    root: &Path,
    scratch: &Path,
    network: Network,
    netlink: &mut Netlink,
    n: usize,
) -> Result<(), String> {
    let text = |error: rustix::io::Errno| error.to_string();
    let (upper, work) = (scratch.join("u"), scratch.join("w"));
    for directory in [scratch, &upper, &work] {
        std::fs::create_dir(directory).map_err(|error| error.to_string())?;
    }
    let (mut go, mut send_go) = std::io::pipe().map_err(|error| error.to_string())?;
    let mut namespaces = Namespace::MOUNT
        | Namespace::PROCESS_ID
        | Namespace::HOST_NAME_AND_NIS_DOMAIN_NAME
        | Namespace::INTER_PROCESS_COMMUNICATION
        | Namespace::CONTROL_GROUP;
    if network != Network::Host {
        namespaces |= Namespace::NETWORK;
    }
    let arguments = [c"true".to_owned()];
    let target =
        CString::new(root.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    let (pid, _pidfd) = clone_process(namespaces, None, || {
        if child_root(root, &upper, &work, &target).is_err() {
            return 98;
        }
        let configured = match network {
            Network::Host => Ok(()),
            Network::Empty => Netlink::open().and_then(|mut inside| inside.up("lo")),
            Network::Bridge => {
                let mut byte = [0];
                match go.read_exact(&mut byte) {
                    Ok(()) => Netlink::open().and_then(|mut inside| inside.configure(n)),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        if configured.is_err() {
            return 97;
        }
        // Only returns when it fails.
        let _ = wharf_sys::exec::execve(c"/bin/true", &arguments, &[]);
        99
    })
    .map_err(text)?;
    if network == Network::Bridge {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", pid.as_raw_nonzero()))
            .map_err(|error| error.to_string())?;
        netlink.add_veth(n, &namespace.into())?;
        send_go.write_all(b"x").map_err(|error| error.to_string())?;
    }
    let status =
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).map_err(text)?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        other => Err(format!("the floor's program ended with {other:?}")),
    }
}

fn child_root(
    root: &Path,
    upper: &Path,
    work: &Path,
    target: &CString,
) -> Result<(), rustix::io::Errno> {
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let overlay = Overlay {
        lower: &[root],
        writable: Some((upper, work)),
        options: &[],
    }
    .mount(MountAttrFlags::empty())?;
    attach_at(&overlay, target)?;
    rustix::process::fchdir(&overlay)?;
    attach_at(new_filesystem("proc", &[], plain)?, c"proc")?;
    let dev = new_filesystem(
        "tmpfs",
        &[("mode", Some("755")), ("size", Some("64k"))],
        MountAttrFlags::MOUNT_ATTR_NOSUID,
    )?;
    attach_at(&dev, c"dev")?;
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        mknodat(
            &dev,
            name,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(major, minor),
        )?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
    }
    for (name, link) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlinkat(link, &dev, name)?;
    }
    attach_at(
        new_filesystem(
            "devpts",
            &[
                ("newinstance", None),
                ("mode", Some("620")),
                ("ptmxmode", Some("0666")),
            ],
            MountAttrFlags::MOUNT_ATTR_NOSUID,
        )?,
        c"dev/pts",
    )?;
    attach_at(
        new_filesystem("tmpfs", &[("mode", Some("1777"))], plain)?,
        c"dev/shm",
    )?;
    attach_at(new_filesystem("mqueue", &[], plain)?, c"dev/mqueue")?;
    if let Ok(sysfs) = new_filesystem("sysfs", &[], plain | MountAttrFlags::MOUNT_ATTR_RDONLY) {
        attach_at(sysfs, c"sys")?;
    }
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    rustix::system::sethostname(b"floor")
}

/// rtnetlink, one request at a time.
struct Netlink {
    socket: OwnedFd,
    bridge: u32,
}

impl Netlink {
    fn open() -> Result<Self, String> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| error.to_string())?;
        Ok(Self { socket, bridge: 0 })
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), String> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        rustix::io::write(&self.socket, &buffer).map_err(|error| error.to_string())?;
        let mut answer = vec![0; 8192];
        let count =
            rustix::io::read(&self.socket, &mut answer).map_err(|error| error.to_string())?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..count])
            .map_err(|error| error.to_string())?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io().to_string()),
            _ => Ok(()),
        }
    }

    fn index(name: &str) -> Result<u32, String> {
        rustix::net::netdevice::name_to_index(
            rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::DGRAM,
                None,
            )
            .map_err(|error| error.to_string())?,
            name,
        )
        .map_err(|error| error.to_string())
    }

    fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes = attributes;
        link
    }

    fn up(&mut self, name: &str) -> Result<(), String> {
        let mut link = Self::link(Vec::new());
        link.header.index = Self::index(name)?;
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn add_bridge(&mut self) -> Result<(), String> {
        let attributes = vec![
            LinkAttribute::IfName(BRIDGE.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(Self::link(attributes)),
            NLM_F_CREATE | NLM_F_EXCL,
        )?;
        self.bridge = Self::index(BRIDGE)?;
        self.address(self.bridge, [10, 211, 0, 1])
    }

    fn delete_bridge(&mut self) -> Result<(), String> {
        let mut link = Self::link(Vec::new());
        link.header.index = self.bridge;
        self.request(RouteNetlinkMessage::DelLink(link), 0)
    }

    fn address(&mut self, index: u32, address: [u8; 4]) -> Result<(), String> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 16;
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(address.into()),
            AddressAttribute::Address(address.into()),
        ];
        self.request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// The host's end on the bridge and up, the other directly in the container's namespace.
    fn add_veth(&mut self, n: usize, namespace: &OwnedFd) -> Result<(), String> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()),
        ];
        let attributes = vec![
            LinkAttribute::IfName(format!("fl{n}")),
            LinkAttribute::Controller(self.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(Self::link(attributes)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Inside: loopback and eth0 up, address, default route.
    fn configure(&mut self, n: usize) -> Result<(), String> {
        self.up("lo")?;
        let index = Self::index("eth0")?;
        let [.., high, low] = u32::try_from(n + 2).unwrap_or(2).to_be_bytes();
        self.address(index, [10, 211, high, low])?;
        self.up("eth0")?;
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.table = 254;
        route.header.protocol = RouteProtocol::Boot;
        route.header.scope = RouteScope::Universe;
        route.header.kind = RouteType::Unicast;
        route.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(
            [10, 211, 0, 1].into(),
        ))];
        self.request(
            RouteNetlinkMessage::NewRoute(route),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}
