"""The root of an image for deploy/kubernetes: busybox, uWSGI with Perl, squashfuse, and both programs.

Used by play.py and cluster.py. Takes what Debian has installed here.
"""

import glob
import re
import shutil
import subprocess
from pathlib import Path

PAGE = "a page of hello\n"
FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "srv/hello/page.txt": PAGE,
    # Reads its page for each request, so that a 200 says that the filesystem answers.
    "srv/hello/hello.pl": """use File::Basename;
my $file = dirname(__FILE__) . '/page.txt';
sub {
    open(my $page, '<', $file) or return [500, ['Content-Type' => 'text/plain'], ["$file: $!\\n"]];
    return [200, ['Content-Type' => 'text/plain'], [<$page>]];
}
""",
}
DIRECTORIES = ("app", "bin", "dev", "proc", "run", "sys", "tmp", "usr/bin", "usr/local/sbin")
PROGRAMS = ("uwsgi-core", "squashfuse")
PLUGIN = "/usr/lib/uwsgi/plugins/psgi_plugin.so"


def make_tree(tree, dist):
    """Makes the directory."""
    for directory in DIRECTORIES:
        (tree / directory).mkdir(parents=True)
    # As the kubelet makes an emptyDir that is mounted there.
    for directory in ("run", "tmp"):
        (tree / directory).chmod(0o777)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for applet in output("/bin/busybox", "--list").split():
        if applet != "busybox":
            (tree / "bin" / applet).symlink_to("busybox")
    for program in (*map(shutil.which, PROGRAMS), PLUGIN):
        copy_with_libraries(program, tree)
    (tree / "usr/bin/uwsgi").symlink_to("uwsgi-core")
    # 5.36.0, as a link that Perl does without.
    for modules in glob.glob("/usr/lib/*-linux-gnu/perl/5.*.*") + glob.glob("/usr/share/perl/5.*.*"):
        shutil.copytree(modules, f"{tree}{modules.rpartition('.')[0]}")
    for program in ("emperor", "vassal-init"):
        shutil.copy(dist / program, tree / "usr/local/sbin" / program)
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    output("mksquashfs", tree / "srv/hello", tree / "srv/hello.squashfs", "-quiet", "-no-progress")


def copy_with_libraries(program, tree):
    for path in (program, *re.findall(r"(/\S+) \(0x", output("ldd", program))):
        target = Path(f"{tree}{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def output(*words):
    return subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, text=True, check=True).stdout
