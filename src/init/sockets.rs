//! The app's listening sockets: bound before the privilege drop, handed to the app (sd_listen_fds(3)), and kept by the
//! emperor while there is no instance, so that connections wait instead of being refused.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FileType, Mode, lstat};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::launch::{Progress, Work};
use super::run::{Role, Vassal};
use crate::accounts::Accounts;
use crate::config;
use crate::config::plan::{Listen, Located, Place};
use crate::error::{Context, Error, Result};
use crate::protocol::{FromVassal, KeptSocket, ON_DEMAND, WaitStatus, send};

/// Where the app finds its sockets: behind the standard descriptors.
pub const FIRST: i32 = 3;

/// A socket that is listening.
#[derive(Debug)]
pub struct Socket {
    /// What it is known by to the next instance.
    pub label: String,
    /// Its key, the name of it for the app.
    pub name: String,
    /// The socket, above the numbers at which the app gets them.
    pub fd: OwnedFd,
}

/// What a child has to do for a socket that has a file.
#[derive(Debug)]
pub struct Binding<'a> {
    /// The unbound socket.
    pub fd: BorrowedFd<'a>,
    path: &'a Path,
    listen: &'a Listen,
    /// Whose the file is to be.
    owner: Option<(u32, Option<u32>)>,
    /// The file of the socket that was kept.
    kept: Option<&'a str>,
}

impl Vassal {
    /// Binds the plan's sockets, or takes back those that were kept, and gives the emperor what it is to keep.
    ///
    /// # Errors
    /// The address, where it was written, and why nobody can listen there.
    pub(super) fn open_sockets(&mut self, accounts: &Accounts, kept: Vec<KeptSocket>) -> Result<()> {
        let plan = std::rc::Rc::clone(&self.plan);
        let mut kept = kept;
        let mut fresh = Vec::new();
        // Above the descriptors at which the app gets them all.
        let above = FIRST + plan.listen.len() as i32 + 1;
        let move_up = |fd: &OwnedFd| {
            rustix::io::fcntl_dupfd_cloexec(fd, above).context("keep free for the app", "its descriptors")
        };
        // The emperor listens there already, and goes on when we are gone.
        let mut on_demand = None;
        if let Some(index) = kept.iter().position(|socket| socket.label.starts_with(ON_DEMAND)) {
            let KeptSocket { label, fd } = kept.swap_remove(index);
            on_demand = label.strip_prefix(ON_DEMAND).and_then(|name| config::address(name.as_bytes()).ok());
            self.sockets.push(Socket { fd: move_up(&fd)?, label, name: "on-demand".to_owned() });
        }
        for listen in &plan.listen {
            if on_demand.as_ref().is_some_and(|address| address.place == listen.value.address.place) {
                continue;
            }
            let opened = self.open_socket(&listen.value, accounts, &mut kept);
            let (label, fd, is_new) = opened.map_err(|error| written(&error, listen))?;
            let fd = move_up(&fd)?;
            fresh.extend(is_new.then_some(self.sockets.len()));
            self.sockets.push(Socket { label, name: listen.key.to_string(), fd });
        }
        let Some(link) = self.events.link() else { return Ok(()) };
        // In a network namespace of its own, which ends with the instance, nobody could reach a socket that was kept.
        if !plan.keep_sockets || self.has_namespace(libc::CLONE_NEWNET) {
            return Ok(());
        }
        let labels = self.sockets.iter().map(|socket| socket.label.clone()).collect();
        let _ = send(link, &FromVassal::Sockets(labels).encode(), None);
        for socket in fresh.into_iter().filter_map(|index| self.sockets.get(index)) {
            let _ = send(link, &FromVassal::Keep(socket.label.clone()).encode(), Some(&socket.fd));
        }
        Ok(())
    }

    /// A listening socket, its label, and whether it is a new one.
    fn open_socket(
        &mut self,
        plan: &Listen,
        accounts: &Accounts,
        kept: &mut Vec<KeptSocket>,
    ) -> Result<(String, OwnedFd, bool)> {
        let name = plan.address.name.clone();
        let is_its = |label: &str| {
            label == name || label.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(' '))
        };
        let old = kept.iter().position(|socket| is_its(&socket.label)).map(|index| kept.swap_remove(index));
        match (&plan.address.place, old) {
            (Place::File(path), old) => self.open_file_socket(plan, path, accounts, old),
            (_, Some(old)) => {
                listen(&old.fd, backlog(plan)).context("listen on", &name)?;
                Ok((old.label, old.fd, false))
            }
            (Place::Abstract(abstract_name), None) => {
                let bound = SocketAddrUnix::new_abstract_name(abstract_name)
                    .and_then(|address| listener(AddressFamily::UNIX, &address, plan));
                Ok((name.clone(), bound.context("listen on", &name)?, true))
            }
            (Place::Internet(address), None) => {
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                Ok((name.clone(), listener(family, address, plan).context("listen on", &name)?, true))
            }
        }
    }

    /// A socket with a file is bound by a child: the way to it may hang, and it is the user's way, unless the file is to be
    /// another's.
    fn open_file_socket(
        &mut self,
        plan: &Listen,
        path: &Path,
        accounts: &Accounts,
        old: Option<KeptSocket>,
    ) -> Result<(String, OwnedFd, bool)> {
        let name = path.display();
        let owner = plan.owner.as_ref().map(|owner| {
            let group = owner.group.as_ref().map(|group| accounts.group(group)).transpose()?;
            Ok((accounts.user(&owner.user)?.uid, group))
        });
        let owner = owner.transpose()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .context("create", "a socket")?;
        let kept = old.as_ref().and_then(|old| old.label.rsplit_once(' ')).map(|(_, file)| file);
        let binding = Binding { fd: fd.as_fd(), path, listen: plan, owner, kept };
        let work = Work::Bind(&binding);
        let launched = self.launch(Role::Hook, owner.is_none(), &work, None, &[], &[])?;
        let ended = self.wait_for(launched.pid, Instant::now() + self.plan.hook_timeout);
        let file = match (launched.progress(), ended) {
            (Progress::Failed(error, _), _) => return Err(error),
            (Progress::Said(file), Ok(WaitStatus::Exited(0))) => file,
            (_, Ok(status)) => return Err(Error::new("listen on", name, status)),
            (_, Err(_)) => {
                super::reaper::kill(&[launched.pid], libc::SIGKILL);
                return Err(Error::new("listen on", name, "it takes too long, or somebody wants us to stop"));
            }
        };
        match old {
            Some(old) if kept_label(&old.label) == Some(&*file) => Ok((old.label, old.fd, false)),
            _ => Ok((format!("{name} {file}"), fd, true)),
        }
    }
}

/// The file in the label of a socket that has one.
fn kept_label(label: &str) -> Option<&str> {
    label.rsplit_once(' ').map(|(_, file)| file)
}

impl Binding<'_> {
    /// In the child: binds the socket, unless the one that was kept is still the one there. Returns device and inode of its
    /// file.
    ///
    /// # Errors
    /// Something else is there, or bind(2), chmod(2), chown(2).
    pub fn perform(&self) -> Result<String> {
        let (path, name) = (self.path, self.path.display());
        let address = SocketAddrUnix::new(path).context("listen on", &name)?;
        if let Ok(there) = lstat(path) {
            let file = file_id(&there);
            if self.kept == Some(&*file) {
                return Ok(file);
            }
            let is_socket = FileType::from_raw_mode(there.st_mode) == FileType::Socket;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
            // Nobody listens on what another instance, or another emperor, has left behind.
            if is_socket && client.and_then(|client| connect(client, &address)) == Err(Errno::CONNREFUSED) {
                rustix::fs::unlink(path).context("remove the old socket", &name)?;
            }
        }
        bind(self.fd, &address).context("listen on", &name)?;
        if let Some(mode) = self.listen.mode {
            rustix::fs::chmod(path, Mode::from_raw_mode(mode)).context("chmod", &name)?;
        }
        if let Some((uid, gid)) = self.owner {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), gid.map(rustix::fs::Gid::from_raw));
            rustix::fs::chown(path, Some(uid), gid).context("chown", &name)?;
        }
        listen(self.fd, backlog(self.listen)).context("listen on", &name)?;
        lstat(path).map(|there| file_id(&there)).context("look at", &name)
    }
}

fn file_id(there: &rustix::fs::Stat) -> String {
    format!("{}:{}", there.st_dev, there.st_ino)
}

fn listener(
    family: AddressFamily,
    address: &impl SocketAddrArg,
    plan: &Listen,
) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if family != AddressFamily::UNIX {
        // Else connections of the last instance that are not quite over would keep the port.
        set_socket_reuseaddr(&socket, true)?;
        set_socket_reuseport(&socket, plan.reuse_port)?;
    }
    bind(&socket, address)?;
    listen(&socket, backlog(plan))?;
    Ok(socket)
}

fn backlog(plan: &Listen) -> i32 {
    i32::try_from(plan.backlog).unwrap_or(i32::MAX)
}

/// What the app's environment says about its sockets, but for its pid (sd_listen_fds(3)).
pub fn variables(sockets: &[Socket]) -> Vec<(OsString, OsString)> {
    if sockets.is_empty() {
        return Vec::new();
    }
    let names: Vec<_> = sockets.iter().map(|socket| socket.name.as_str()).collect();
    vec![
        ("LISTEN_FDS".into(), sockets.len().to_string().into()),
        ("LISTEN_FDNAMES".into(), names.join(":").into()),
    ]
}

fn written(error: &Error, listen: &Located<Listen>) -> Error {
    Error::new(&format!("{}:", listen.at), &listen.key, error)
}
