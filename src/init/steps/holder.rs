//! Tells who has an address that cannot be bound, as far as `/proc` shows it.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::fs::readlinkat;

use crate::files::{numbers_in, open_proc, read_file_at};
use crate::place::Place;

/// Where the kernel lists sockets: those of TCP have a line of numbers each, those that listen first.
const INTERNET: [&str; 2] = ["self/net/tcp", "self/net/tcp6"];
const UNIX: &str = "self/net/unix";

/// In a child: who listens at `place` in this network namespace; `None` if nobody is seen to.
pub fn who_listens(place: &Place) -> Option<String> {
    let proc = open_proc().ok()?;
    let list = |file: &str| {
        let text = read_file_at(&proc, file).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    };
    let (user, inode) = match place {
        Place::Internet(_) => INTERNET.iter().find_map(|file| {
            let text = list(file);
            text.lines().find_map(|line| listener_in(line, place))
        })?,
        Place::File(_) | Place::Abstract(_) => {
            let end = format!(" {place}");
            (None, list(UNIX).lines().find_map(|line| bound_in(line, &end))?)
        }
    };
    let link = format!("socket:[{inode}]");
    let has_it = |pid: &i32| {
        let fds = format!("{pid}/fd");
        numbers_in(proc.as_fd(), &fds).iter().any(|fd| {
            let target = readlinkat(&proc, format!("{fds}/{fd}"), Vec::new());
            target.is_ok_and(|target| target.as_bytes() == link.as_bytes())
        })
    };
    let described = |pid: i32| {
        let name = read_file_at(&proc, &format!("{pid}/comm")).unwrap_or_default();
        (pid, String::from_utf8_lossy(&name).trim_end().to_owned())
    };
    let mut holders = numbers_in(proc.as_fd(), ".").into_iter().filter(has_it).map(described);
    let first = holders.next();
    // An emperor has it only for the time in which there is no app.
    let keeps = first.as_ref().is_some_and(|(_, name)| name == "emperor");
    match holders.next().filter(|_| keeps).or(first) {
        Some((pid, name)) => Some(format!("pid {pid} ({name}) listens there")),
        None => user.map(|user| format!("a process of user {user} listens there")),
    }
}

/// The inode of the unix socket of this line, which ends with its name. The server's side of a connection has
/// the name of the socket that listens, also while it waits to be accepted: it is listed before that, or
/// behind.
fn bound_in(line: &str, end: &str) -> Option<String> {
    const UNCONNECTED: &str = "01";
    let fields: Vec<_> = line.strip_suffix(end)?.split_ascii_whitespace().collect();
    let [_, _, _, _, _, state, inode] = fields.as_slice() else { return None };
    (*state == UNCONNECTED).then(|| (*inode).to_owned())
}

/// The user and the inode of the socket of this line, if it listens at `place`.
fn listener_in(line: &str, place: &Place) -> Option<(Option<String>, String)> {
    const LISTENS: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (bound, _, state) = (fields.next()?, fields.next()?, fields.next()?);
    let is_it = state == LISTENS && Place::Internet(address(bound)?).is_reached_by(place);
    is_it.then_some(())?;
    Some((Some(fields.nth(3)?.to_owned()), fields.nth(1)?.to_owned()))
}

/// An address in the kernel's digits: each 32 bits of it as a number of this machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let port = u16::from_str_radix(port, 16).ok()?;
    if ip.len() == 8 {
        return Some(SocketAddr::from((word(0)?, port)));
    }
    let mut bytes = [0; 16];
    for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&word(index * 8)?);
    }
    Some(SocketAddr::from((bytes, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_kernels_lists_name_who_listens() {
        let pid = std::process::id();
        let is_us = |place: &Place| {
            let told = who_listens(place).unwrap_or_default();
            told.starts_with(&format!("pid {pid} (")) && told.ends_with(") listens there")
        };
        for bound in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let socket = TcpListener::bind(bound).unwrap();
            let place = Place::Internet(socket.local_addr().unwrap());
            assert!(is_us(&place), "{place}: {:?}", who_listens(&place));
            drop(socket);
            assert_eq!(who_listens(&place), None);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a socket");
        let _socket = UnixListener::bind(&path).unwrap();
        assert!(is_us(&Place::File(path)));
        assert_eq!(who_listens(&Place::File("socket".into())), None);
    }

    #[test]
    fn who_waits_at_a_socket_or_was_accepted_there_does_not_hide_who_listens() {
        let inode = |numbers: &str| bound_in(&format!("000000002f2cfe95: {numbers} /run/a b"), " /run/a b");
        assert_eq!(inode("00000002 00000000 00010000 0001 01 35248813").as_deref(), Some("35248813"));
        assert_eq!(inode("00000003 00000000 00000000 0001 02     0"), None);
        assert_eq!(inode("00000003 00000000 00000000 0001 03 35248814"), None);
        assert_eq!(inode("00000002 00000000 00010000 0001 01 35248813 /run"), None);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let little = cfg!(target_endian = "little");
        let text = if little { "0100007F:1B58" } else { "7F000001:1B58" };
        assert_eq!(address(text), "127.0.0.1:7000".parse().ok());
        for text in ["", ":", "0:0", "010000:1", "0100007F:", "0100007F01:1", "é100007F:1"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
