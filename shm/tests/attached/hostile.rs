//! Clients that are none, and daemons that are wrong.

use super::daemon::Daemon;
use super::{descriptors, hello, readable};
use bettong_shm::real::attach::{AttachError, RefusalKind, Reply, Welcome};
use bettong_shm::real::{Memfd, segment_bytes};
use bettong_wire::DecodeError;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, connect, recv, send, sendmsg, socket_with,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;

fn connected(daemon: &Daemon) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(daemon.listener.path()).unwrap()).unwrap();
    socket
}

/// What the daemon answers to whoever has sent something.
fn refused(daemon: &Daemon, socket: &OwnedFd) -> (AttachError, RefusalKind) {
    readable(&daemon.listener);
    let pending = daemon.listener.accept().unwrap().unwrap();
    let error = pending.hello().unwrap_err();
    drop(pending);
    let mut space = [0; 1000];
    let (_, len) = recv(socket, &mut space[..], RecvFlags::empty()).unwrap();
    let Ok(Reply::Refusal(refusal)) = Reply::decode(&space[..len]) else { panic!("no refusal") };
    assert_eq!(refusal.text, error.to_string());
    (error, refusal.kind)
}

pub fn tests() {
    let daemon = Daemon::start();
    let good = hello().encode().unwrap();
    let mut newer = good.clone();
    newer[8] += 1;
    for (bytes, kind) in [
        (b"x".to_vec(), RefusalKind::Invalid),
        (good[..20].to_vec(), RefusalKind::Invalid),
        ([good.as_slice(), b"x"].concat(), RefusalKind::Invalid),
        (vec![b'b'; 5000], RefusalKind::Invalid),
        (newer, RefusalKind::Version),
    ] {
        let socket = connected(&daemon);
        send(&socket, &bytes, SendFlags::empty()).unwrap();
        let (error, got) = refused(&daemon, &socket);
        assert!(matches!(error, AttachError::Packet(_)) && got == kind, "{error}");
        assert!(bytes.len() < 5000 || matches!(error, AttachError::Packet(DecodeError::TooLong { .. })), "{error}");
    }
    a_descriptor_is_not_taken(&daemon, &good);
    let socket = connected(&daemon);
    let pending = daemon.listener.accept().unwrap().unwrap();
    assert!(pending.hello().unwrap().is_none(), "it has said nothing");
    drop(socket);
    assert!(matches!(pending.hello(), Err(AttachError::Gone)));
    ["count", "many", "size", "seal", "writable", "reply"].into_iter().for_each(wrong);
}

/// A daemon that gives its client something else than it says.
fn wrong(what: &str) {
    let daemon = Daemon::start();
    let mut child = daemon.spawn(what);
    readable(&daemon.listener);
    let socket = accept_with(&daemon.listener, SocketFlags::CLOEXEC).unwrap();
    let (_, len) = recv(&socket, &mut [0; 1000], RecvFlags::empty()).unwrap();
    assert!(len > 0);
    let welcome = Welcome { pool_bytes: 4096, ..daemon.welcome(8192) };
    let ring = segment_bytes(welcome.ring_words as usize);
    let own = |bytes| OwnedFd::from(Memfd::own(bytes).unwrap().0);
    let of_peer = |bytes| OwnedFd::from(Memfd::of_peer(bytes).unwrap().0);
    let unsealed = |bytes: usize| {
        let memfd = memfd_create("unsealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memfd, bytes as u64).unwrap();
        memfd
    };
    let mut fds = match what {
        "count" => vec![own(ring), of_peer(ring), own(4096)],
        "many" => vec![own(ring), of_peer(ring), own(4096), of_peer(8192), own(4096)],
        "size" => vec![own(ring), of_peer(ring), own(4096), of_peer(4096)],
        "seal" => vec![own(ring), of_peer(ring), own(4096), unsealed(8192)],
        // Others could write what the daemon leases.
        "writable" => vec![own(ring), of_peer(ring), of_peer(4096), of_peer(8192)],
        _ => vec![own(ring), of_peer(ring), own(4096), of_peer(8192)],
    };
    // Nobody gets as far as to ring it.
    fds.push(own(4096));
    let mut packet = Reply::Welcome(welcome).encode();
    if what == "reply" {
        packet.push(0);
    }
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(6))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&socket, &[IoSlice::new(&packet)], &mut control, SendFlags::empty()).unwrap();
    assert!(child.wait().unwrap().success(), "{what}");
}

fn a_descriptor_is_not_taken(daemon: &Daemon, good: &[u8]) {
    let socket = connected(daemon);
    let fds = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&socket, &[IoSlice::new(good)], &mut control, SendFlags::empty()).unwrap();
    let before = descriptors();
    let (error, kind) = refused(daemon, &socket);
    assert!(matches!(error, AttachError::Descriptors) && kind == RefusalKind::Invalid, "{error}");
    assert_eq!(descriptors(), before);
}
