//! The tutorial's first example, and the page it serves.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use super::sandbox::{Sandbox, VASSALS, vassal_path};
use super::{PATIENCE, eventually, run, slowness};

/// Word for word.
pub const EMPEROR_INI: &str = "\
[uwsgi]
emperor = /etc/uwsgi/vassals
emperor-use-clone = fs,pid
";

/// Word for word, but for `plugin = psgi`: Debian ships psgi as a plugin.
pub const VASSAL_INI: &str = "\
[uwsgi]
uid = user001
gid = user001

; mount FUSE filesystem under /app (but only if it is not a reload)
if-not-reload =
  exec-as-user = fuse-zip -r /var/www/app001.zip /app
endif =

http-socket = :9090
plugin = psgi
psgi = /app/myapp.pl

mountpoint-check = /app
";

/// What the app serves.
pub const PAGE: &str = "<p>Hello from inside app001.zip</p>\n";

/// Lines that mount the app's zip as its user, and check it every 50 ms.
pub const MOUNTED: &str = "\
uid = user001
exec-as-user = fuse-zip -r /var/www/app001.zip /app
mountpoint-check = /app
mountpoint-check-interval = 50ms";

/// The app reads its page from the zip for each request: a page says that the filesystem answers.
const APP: &str = r#"sub {
    open(my $page, '<', '/app/page.html')
        or return [500, ['Content-Type' => 'text/plain'], ["page.html: $!\n"]];
    return [200, ['Content-Type' => 'text/html'], [<$page>]];
}
"#;

impl Sandbox {
    /// Writes `/var/www/app001.zip`.
    pub fn zip(&self) {
        self.file("myapp.pl", APP);
        self.file("page.html", PAGE);
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        run("zip", &["-qj", "/var/www/app001.zip", &path("myapp.pl"), &path("page.html")]);
    }

    /// The zip, and the vassal's file.
    pub fn tutorial(&self) {
        self.zip();
        fs::create_dir_all(VASSALS).unwrap();
        fs::write(vassal_path("app001"), VASSAL_INI).unwrap();
    }
}

/// One request to port 9090; `None` unless the answer is a page.
pub fn get() -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 9090)).ok()?;
    // Whoever comes while there is no instance is answered by the next one.
    stream.set_read_timeout(Some(PATIENCE * slowness())).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// Waits until the page is served.
pub fn wait_for_page() {
    let page = eventually("the page", get);
    assert_eq!(page, PAGE);
}

/// Whether something is mounted at `/app` as the process sees it.
pub fn sees_app_mounted(pid: i32) -> bool {
    let mounts = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("mountinfo")).unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some("/app"))
}
