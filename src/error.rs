//! One error type: what was attempted, on which object, and why it failed.
//!
//! An [`Error`] is built where the operation is known. The code that decides how to go on prints it, once.
//! Code in between passes it on unchanged.

use std::fmt;

use rustix::io::Errno;

use crate::names;
use crate::names::{Names, split};

/// A failed operation: `operation object: cause`.
///
/// Boxed, because almost every function returns one, and its size would be paid for hundreds of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    subject: String,
    cause: Cause,
    clue: Option<Box<str>>,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused.
    Os(Errno),
    /// This program refused; the text is the reason.
    Because(Box<str>),
}

/// The result of a function that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An operation on `object` that this program refused.
    pub fn new(operation: &str, object: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::because(operation, &object, &reason)
    }

    fn because(operation: &str, object: &dyn fmt::Display, reason: &dyn fmt::Display) -> Self {
        Self::build(operation, object, Cause::Because(reason.to_string().into()))
    }

    /// A system call that failed on `object`.
    pub fn os(operation: &str, object: impl fmt::Display, errno: Errno) -> Self {
        Self::build(operation, &object, Cause::Os(errno))
    }

    fn build(operation: &str, object: &dyn fmt::Display, cause: Cause) -> Self {
        Self(Box::new(Inner { subject: format!("{operation} {object}"), cause, clue: None }))
    }

    /// Encodes the error for another process of this program, which reads it with [`Error::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.errno().to_le_bytes().to_vec();
        bytes.extend(self.0.subject.as_bytes());
        let text = match &self.0.cause {
            Cause::Because(reason) => Some(reason),
            Cause::Os(_) => self.0.clue.as_ref(),
        };
        if let Some(text) = text {
            bytes.push(0);
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    /// Adds what is known about the refusal of the kernel: who has the address, which directory is closed.
    #[must_use]
    pub fn with_clue(mut self, clue: Option<String>) -> Self {
        self.0.clue = clue.map(Into::into);
        self
    }

    /// Reads the bytes of [`Error::to_bytes`]; `None` if they are too short.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (errno, text) = bytes.split_first_chunk::<4>()?;
        let text = String::from_utf8_lossy(text);
        let (subject, cause, clue) = match (i32::from_le_bytes(*errno), text.split_once('\0')) {
            (0, Some((subject, reason))) => (subject, Cause::Because(reason.into()), None),
            (errno, Some((subject, clue))) => (subject, Cause::Os(received(errno)), Some(clue.into())),
            (errno, None) => (&*text, Cause::Os(received(errno)), None),
        };
        Some(Self(Box::new(Inner { subject: subject.to_owned(), cause, clue })))
    }

    /// Which of the things has run out that all processes need, as one bit: processes, open files, or memory.
    /// 0 for any other error.
    pub fn shortage(&self) -> u64 {
        let bit = |errno: Errno| 1 << errno.raw_os_error();
        let all: u64 = bit(Errno::AGAIN) | bit(Errno::MFILE) | bit(Errno::NFILE) | bit(Errno::NOMEM);
        1_u64.checked_shl(self.errno().cast_unsigned()).unwrap_or_default() & all
    }

    /// The kernel's error number; 0 if the kernel did not refuse.
    pub fn errno(&self) -> i32 {
        match self.0.cause {
            Cause::Os(errno) => errno.raw_os_error(),
            Cause::Because(_) => 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.subject, self.0.cause)?;
        self.0.clue.as_ref().map_or(Ok(()), |clue| write!(f, ": {clue}"))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(errno) => Described(*errno).fmt(f),
            Self::Because(reason) => f.write_str(reason),
        }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl std::error::Error for Error {}

/// Adds operation and object to the error of a system call.
pub trait Context<T> {
    /// `operation object: cause`; `object` is only rendered on failure.
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::os(operation, object, errno))
    }
}

impl<T> Context<T> for Result<T, Cause> {
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| Error::build(operation, &object, cause))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::os(operation, object, errno(&error)))
    }
}

/// The kernel's number for an error of std. Only a NUL byte in a path and bytes that are not UTF-8 have none;
/// for these EINVAL.
pub fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

/// The error of a number that another process has sent, which may be any; EIO for one that no error has.
pub fn received(number: i32) -> Errno {
    match number {
        1..=4095 => Errno::from_raw_os_error(number),
        _ => Errno::IO,
    }
}

/// An error number with text and name, as people search for it: `No such file or directory (ENOENT)`.
pub struct Described(pub Errno);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ERRORS.line(self.0).map(split) {
            Some((name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "error number {}", self.0.raw_os_error()),
        }
    }
}

/// The text of an error number, as from strerror(3).
pub fn text(errno: Errno) -> &'static str {
    ERRORS.line(errno).map_or("Unknown error", |line| split(line).1)
}

/// Name, text and number (errno(3)). The texts are those of glibc, which people search for; musl has others.
#[rustfmt::skip]
static ERRORS: Names<Errno> = names![
    ("EPERM Operation not permitted", Errno::PERM),
    ("ENOENT No such file or directory", Errno::NOENT),
    ("ESRCH No such process", Errno::SRCH),
    ("EINTR Interrupted system call", Errno::INTR),
    ("EIO Input/output error", Errno::IO),
    ("ENXIO No such device or address", Errno::NXIO),
    ("E2BIG Argument list too long", Errno::TOOBIG),
    ("ENOEXEC Exec format error", Errno::NOEXEC),
    ("EBADF Bad file descriptor", Errno::BADF),
    ("ECHILD No child processes", Errno::CHILD),
    ("EAGAIN Resource temporarily unavailable", Errno::AGAIN),
    ("ENOMEM Cannot allocate memory", Errno::NOMEM),
    ("EACCES Permission denied", Errno::ACCESS),
    ("EFAULT Bad address", Errno::FAULT),
    ("ENOTBLK Block device required", Errno::NOTBLK),
    ("EBUSY Device or resource busy", Errno::BUSY),
    ("EEXIST File exists", Errno::EXIST),
    ("EXDEV Invalid cross-device link", Errno::XDEV),
    ("ENODEV No such device", Errno::NODEV),
    ("ENOTDIR Not a directory", Errno::NOTDIR),
    ("EISDIR Is a directory", Errno::ISDIR),
    ("EINVAL Invalid argument", Errno::INVAL),
    ("ENFILE Too many open files in system", Errno::NFILE),
    ("EMFILE Too many open files", Errno::MFILE),
    ("ENOBUFS No buffer space available", Errno::NOBUFS),
    ("ENOTTY Inappropriate ioctl for device", Errno::NOTTY),
    ("ETXTBSY Text file busy", Errno::TXTBSY),
    ("EFBIG File too large", Errno::FBIG),
    ("ENOSPC No space left on device", Errno::NOSPC),
    ("EROFS Read-only file system", Errno::ROFS),
    ("EMLINK Too many links", Errno::MLINK),
    ("EPIPE Broken pipe", Errno::PIPE),
    ("ELOOP Too many levels of symbolic links", Errno::LOOP),
    ("ENAMETOOLONG File name too long", Errno::NAMETOOLONG),
    ("ENOSYS Function not implemented", Errno::NOSYS),
    ("ENOTEMPTY Directory not empty", Errno::NOTEMPTY),
    ("EOVERFLOW Value too large for defined data type", Errno::OVERFLOW),
    ("EUSERS Too many users", Errno::USERS),
    ("EOPNOTSUPP Operation not supported", Errno::OPNOTSUPP),
    ("EADDRINUSE Address already in use", Errno::ADDRINUSE),
    ("EADDRNOTAVAIL Cannot assign requested address", Errno::ADDRNOTAVAIL),
    ("ECONNABORTED Software caused connection abort", Errno::CONNABORTED),
    ("ECONNRESET Connection reset by peer", Errno::CONNRESET),
    ("ENOTCONN Transport endpoint is not connected", Errno::NOTCONN),
    ("ETIMEDOUT Connection timed out", Errno::TIMEDOUT),
    ("ECONNREFUSED Connection refused", Errno::CONNREFUSED),
    ("EHOSTDOWN Host is down", Errno::HOSTDOWN),
    ("ESTALE Stale file handle", Errno::STALE),
    ("EDQUOT Disk quota exceeded", Errno::DQUOT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_object_and_cause() {
        let error = Error::os("mount", "/app", Errno::NOTCONN);
        assert_eq!(error.to_string(), "mount /app: Transport endpoint is not connected (ENOTCONN)");
        assert_eq!(error.errno(), Errno::NOTCONN.raw_os_error());
        assert_eq!(Error::from_bytes(&error.to_bytes()), Some(error));
        assert_eq!(Described(Errno::from_raw_os_error(133)).to_string(), "error number 133");
        for number in [0, -1, 4096, i32::MIN, i32::MAX] {
            assert_eq!(received(number), Errno::IO);
        }
        assert_eq!(received(libc::ENOENT), Errno::NOENT);
        let error = Error::os("listen on", ":80", Errno::ADDRINUSE).with_clue(Some("pid 5 does".into()));
        assert_eq!(error.to_string(), "listen on :80: Address already in use (EADDRINUSE): pid 5 does");
        assert_eq!(Error::from_bytes(&error.to_bytes()), Some(error));
        let error = Error::new("read", "x.ini", "larger than 1 MiB");
        assert_eq!(Error::from_bytes(&error.to_bytes()).as_ref(), Some(&error));
        assert_eq!((error.to_string().as_str(), error.errno()), ("read x.ini: larger than 1 MiB", 0));
    }
}
