//! The app's listening sockets. They are bound before the privilege drop, passed to the app
//! (sd_listen_fds(3)), and kept by the emperor while there is no instance, so that connections wait instead
//! of being refused.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, listen, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::accounts::Accounts;
use crate::config::plan::{Listen, Located, VassalPlan};
use crate::error::{Context, Error, Result};
use crate::init::child::launch::Progress;
use crate::init::child::listen_fds::{self, Socket};
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::Jail;
use crate::init::steps::bind::{self, Binding, backlog};
use crate::init::steps::holder;
use crate::listen::{Listening, listen_at};
use crate::log::Elapsed;
use crate::place::Place;
use crate::protocol::{FileId, FromVassal, KeptSocket, SOCKETS_MAX, SocketId, WaitStatus, send};
use crate::running_time;
use crate::sys::fd;

/// How long to wait for an address that is in use, and how often to try it.
pub const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(25);

/// Binds the plan's sockets, or takes over those that the emperor has kept, and gives new ones to the emperor
/// to keep.
///
/// # Errors
/// The address, its place in the configuration, and the reason why it cannot be listened on.
pub fn open(
    events: &mut EventLoop,
    jail: &Jail,
    plan: &VassalPlan,
    accounts: &Accounts,
    kept: Vec<KeptSocket>,
) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    if kept.is_empty() && plan.listen.is_empty() {
        // There is nothing to give up, and the emperor need not wake up for that.
        return Ok(sockets);
    }
    // Above the descriptors at which the app gets its sockets.
    let above = listen_fds::FIRST + plan.listen.len() as i32 + 1;
    let move_up = |fd: &OwnedFd| {
        rustix::io::fcntl_dupfd_cloexec(fd, above).context("keep free for the app", "its descriptors")
    };
    // A network namespace of the instance's own ends with the instance, so a socket in it could not be
    // reached later. A socket with a file could, because files do not belong to the namespace.
    let is_apart = jail.has_namespace(libc::CLONE_NEWNET);
    let is_file = |listen: &Listen| matches!(listen.address.place, Place::File(_));
    let has_file = || plan.listen.iter().any(|listen| is_file(&listen.value));
    let networks = events.link().filter(|_| is_apart && plan.keep_sockets && has_file());
    let networks = networks.and_then(|link| Networks::of(link).ok());
    let outlives = |listen: &Listen| is_kept(listen) && (!is_apart || is_file(listen) && networks.is_some());
    let (mut keep, mut usable, mut on_demand) = (Vec::new(), Vec::new(), None);
    for socket in kept {
        let is_its = |listen: &Listen| outlives(listen) && is_for(listen, &socket.id);
        if socket.id.is_on_demand {
            // The emperor listens on this socket, and continues after the end of this instance.
            on_demand = Some(socket.id.place.clone());
            sockets.push(Socket { fd: move_up(&socket.fd)?, id: socket.id, name: "on-demand".to_owned() });
        } else if plan.listen.iter().any(|listen| is_its(&listen.value)) {
            if plan.keep_sockets {
                keep.push(socket.id.clone());
            }
            usable.push(socket);
        }
        // A kept socket that the plan no longer has is closed now, because it may be in the way of another
        // one.
    }
    events.send(&FromVassal::Sockets(keep.clone()));
    let opener = Opener { jail, plan, accounts, networks: networks.as_ref() };
    let mut fresh = Vec::new();
    for listen in &plan.listen {
        if on_demand.as_ref() == Some(&listen.value.address.place) {
            continue;
        }
        let old = usable.iter().position(|socket| is_for(&listen.value, &socket.id));
        let old = old.map(|index| usable.swap_remove(index));
        let opened = opener.open_patiently(events, &listen.value, old.as_ref(), &mut keep);
        let opened =
            opened.map_err(|error| written(&opener.with_holder(events, error, &listen.value), listen))?;
        if opened.is_some() && plan.keep_sockets && outlives(&listen.value) {
            fresh.push(sockets.len());
        }
        if opened.is_some() {
            give_up(&mut keep, old.as_ref());
        }
        let Some(KeptSocket { id, fd, .. }) = opened.or(old) else { continue };
        sockets.push(Socket { fd: move_up(&fd)?, id, name: listen.key.to_string() });
    }
    if fresh.is_empty() {
        return Ok(sockets);
    }
    let mut room = SOCKETS_MAX.saturating_sub(keep.len());
    events.send(&FromVassal::Sockets(keep));
    let Some(link) = events.link() else { return Ok(sockets) };
    let mut rest = Vec::new();
    for socket in fresh.into_iter().filter_map(|index| sockets.get(index)) {
        if room > 0 {
            let _ = send(link, &FromVassal::Keep(socket.id.clone()).encode(), Some(&socket.fd));
            room -= 1;
        } else {
            rest.push(socket.id.to_string());
        }
    }
    if !rest.is_empty() {
        let places = rest.join(", ");
        crate::log!("of one vassal no more than {SOCKETS_MAX} sockets are kept, and not: {places}");
    }
    Ok(sockets)
}

/// What is needed to open the sockets of a plan.
struct Opener<'a> {
    jail: &'a Jail,
    plan: &'a VassalPlan,
    accounts: &'a Accounts,
    networks: Option<&'a Networks>,
}

impl Opener<'_> {
    /// Opens a socket anew; returns `None` if the kept socket is used. Under an emperor, waits for an address
    /// that is in use: another vassal may be stopping, or about to give the address up.
    fn open_patiently(
        &self,
        events: &mut EventLoop,
        socket: &Listen,
        old: Option<&KeptSocket>,
        keep: &mut Vec<SocketId>,
    ) -> Result<Option<KeptSocket>> {
        let mut until = None;
        loop {
            let opened = self.open(events, socket, old);
            let Err(error) = &opened else { return opened };
            let is_taken = error.errno() == Errno::ADDRINUSE.raw_os_error();
            if !is_taken || events.link().is_none() {
                return opened;
            }
            let end = *until.get_or_insert_with(|| {
                crate::log!("{error}: tried again for {}", Elapsed(PATIENCE));
                // The emperor removes the file of a socket that is no longer kept.
                give_up(keep, old);
                events.send(&FromVassal::Sockets(keep.clone()));
                running_time::now() + PATIENCE
            });
            let next = running_time::now() + PAUSE;
            while running_time::now() < next {
                if next > end {
                    return opened;
                }
                if let Err(interruption) = events.pause(None, Some(next)) {
                    events.put_interruption_back(*interruption);
                    return opened;
                }
            }
        }
    }

    /// Adds who has an address that is in use: an earlier line of the plan, or a process. A child looks for
    /// that, as a tenant may have covered `/proc`.
    fn with_holder(&self, events: &mut EventLoop, error: Error, listen: &Listen) -> Error {
        if error.errno() != Errno::ADDRINUSE.raw_os_error() {
            return error;
        }
        let place = &listen.address.place;
        let first = self.plan.listen.iter().find(|other| other.value.address.place.is_reached_by(place));
        if let Some(own) = first.filter(|first| !std::ptr::eq(&raw const first.value, listen)) {
            return error.with_clue(Some(format!("{} listens there already", own.at)));
        }
        let looks = || Ok(holder::who_listens(place).unwrap_or_default());
        let Ok(launched) = self.jail.worker(false).work(looks) else { return error };
        events.wait_or_kill(launched.pid, running_time::now() + PATIENCE);
        match launched.progress() {
            Progress::Said(holder) => error.with_clue(Some(holder)),
            _ => error,
        }
    }

    fn open(
        &self,
        events: &mut EventLoop,
        socket: &Listen,
        old: Option<&KeptSocket>,
    ) -> Result<Option<KeptSocket>> {
        let name = &socket.address.name;
        let fd = match (&socket.address.place, old) {
            (Place::File(path), old) => {
                return self.open_with_file(events, socket, path, old);
            }
            (_, Some(old)) => {
                return listen(&old.fd, backlog(socket)).context("listen on", name).map(|()| None);
            }
            (place, None) => {
                let flags = SocketFlags::empty();
                let (backlog, reuse_port) = (backlog(socket), socket.reuse_port);
                let how = Listening { backlog, reuse_port, takes_descriptors: true, flags };
                listen_at(place, how)
            }
        };
        let id = SocketId { place: socket.address.place.clone(), file: None, is_on_demand: false };
        Ok(Some(KeptSocket { id, fd: fd.context("listen on", name)?, is_lent: false }))
    }

    /// Opens a socket with a file. A child binds it, because a look at the path may hang. The child runs as
    /// the app's user, unless the file is to belong to another one.
    fn open_with_file(
        &self,
        events: &mut EventLoop,
        socket: &Listen,
        path: &Path,
        old: Option<&KeptSocket>,
    ) -> Result<Option<KeptSocket>> {
        let name = path.display();
        let owner = socket.owner.as_ref().map(|owner| {
            let group = owner.group.as_ref().map(|group| self.accounts.group(group)).transpose()?;
            let user = owner.user.as_ref().map(|user| Ok(self.accounts.user(user)?.uid)).transpose()?;
            Ok((user, group))
        });
        let owner = owner.transpose()?;
        let fd = self.networks.map_or_else(unix_socket, Networks::socket).context("create", "a socket")?;
        if let Some(mode) = socket.mode {
            // The file gets the mode of the socket. A chmod by path could change another file.
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).context("chmod", &name)?;
        }
        let kept = old.and_then(|old| Some((old.id.file?, old.fd.as_fd())));
        let is_lent = old.is_some_and(|old| old.is_lent);
        let binding = Binding { fd: fd.as_fd(), path, listen: socket, owner, kept, is_lent };
        let walk = &self.jail.walk;
        let worker = self.jail.worker(owner.is_none());
        let launched = worker.work(|| binding.perform(walk).map(|file| file.to_string()))?;
        let ended = events.wait_or_kill(launched.pid, running_time::now() + self.plan.hook_timeout);
        let file = match (launched.progress(), ended) {
            (Progress::Failed(failure), _) => {
                // If the child could not become the user, a key other than `listen` is to blame.
                return Err(match failure.key(self.plan) {
                    Some(key) => Error::new("listen on", name, format!("{} ({key})", failure.error)),
                    None => failure.error,
                });
            }
            (Progress::Said(file), Some(WaitStatus::Exited(0))) => FileId::parse(&file),
            (_, Some(status)) => return Err(Error::new("listen on", name, status)),
            (_, None) => return Err(Error::new("listen on", name, "it takes too long")),
        };
        let is_new = kept.is_none_or(|(kept, _)| Some(kept) != file);
        if is_lent && !is_new {
            let taken_over = events.taken_over()?;
            let whose = self.jail.identity.as_ref().map(|identity| (identity.uid, identity.gid));
            self.jail.worker(false).work(|| {
                if let Err(error) = binding.take_over(walk, whose.unwrap_or_default(), taken_over) {
                    crate::log!("{error}; the file of the socket stays as it is");
                }
                Ok(String::new())
            })?;
        }
        let id = SocketId { place: socket.address.place.clone(), file, is_on_demand: false };
        Ok(is_new.then(|| KeptSocket { id, fd, is_lent: false }))
    }
}

/// Whether the file of a socket is gone or replaced by another file, so that no client can connect any more.
pub fn has_lost_one(events: &mut EventLoop, jail: &Jail, plan: &VassalPlan, sockets: &[Socket]) -> bool {
    let deadline = running_time::now() + PATIENCE;
    plan.listen.iter().any(|listen| {
        let Listen { address, owner, .. } = &listen.value;
        let Place::File(path) = &address.place else { return false };
        let socket = sockets.iter().find(|socket| is_for(&listen.value, &socket.id));
        let Some(file) = socket.and_then(|socket| socket.id.file) else { return false };
        let looked = jail.worker(owner.is_none()).work(|| bind::look(path).map(|file| file.to_string()));
        let Ok(launched) = looked else { return false };
        events.wait_or_kill(launched.pid, deadline);
        match launched.progress() {
            Progress::Said(there) => FileId::parse(&there) != Some(file),
            Progress::Failed(failure) => failure.error.errno() == Errno::NOENT.raw_os_error(),
            // The child has not told yet.
            Progress::Preparing | Progress::AtWork => false,
        }
    })
}

/// Notes that a socket is not kept any longer.
fn give_up(keep: &mut Vec<SocketId>, old: Option<&KeptSocket>) {
    keep.retain(|id| old.is_none_or(|old| *id != old.id));
}

/// The network namespaces of the emperor and of this process. A kept socket of this process's namespace would
/// keep the namespace alive after the end of the instance, with its interfaces, which the next instance
/// needs.
struct Networks {
    emperors: OwnedFd,
    ours: OwnedFd,
}

impl Networks {
    fn of(link: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        Ok(Self { emperors: fd::network_of(link)?, ours: fd::network_of(unix_socket()?)? })
    }

    /// Creates a socket in the emperor's namespace, if that is possible.
    fn socket(&self) -> rustix::io::Result<OwnedFd> {
        let enter =
            |network: &OwnedFd| move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
        if enter(&self.emperors).is_err() {
            return unix_socket();
        }
        let socket = unix_socket();
        // An error ends the instance, because it would go on in the wrong namespace.
        enter(&self.ours)?;
        socket
    }
}

fn unix_socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// Whether a socket was kept for this address.
fn is_for(plan: &Listen, socket: &SocketId) -> bool {
    is_kept(plan) && socket.place == plan.address.place
}

/// Whether the socket outlives the instance. A socket with `reuse-port` does not: while it has no app,
/// connections would wait at it that other processes on the same port could serve.
fn is_kept(plan: &Listen) -> bool {
    !(plan.reuse_port && matches!(plan.address.place, Place::Internet(_)))
}

fn written(error: &Error, listen: &Located<Listen>) -> Error {
    Error::new(&format!("{}:", listen.at), &listen.key, error)
}
