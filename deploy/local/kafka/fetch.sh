#!/bin/sh
# Fetches Apache Kafka's own jars from Maven Central into PARTS/kafka/VERSION, where PARTS is $GAUNTLET_PARTS or
# .parts in the repository's root, and prints that folder. Harmless to repeat, and to run twice at once: the folder
# appears by one rename, so it is either absent or complete.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
parts=${GAUNTLET_PARTS:-$(CDPATH='' cd -- "$here/../../.." && pwd)/.parts}
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
target=$parts/kafka/$version

if [ -d "$target" ]; then
    echo "$target"
    exit 0
fi
if ! command -v mvn >/dev/null; then
    echo "fetch.sh: Maven (mvn) is needed to fetch Kafka's jars: apt-get install maven" >&2
    exit 1
fi

mkdir -p "$parts/kafka"
# Maven's local repository doesn't bear two writers; where flock is missing, the rename below still keeps us whole.
if command -v flock >/dev/null; then
    exec 9>"$parts/kafka/.lock"
    flock 9
fi
fresh=$(mktemp -d "$parts/kafka/.fetch.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
trap 'exit 130' INT TERM
if [ ! -d "$target" ]; then
    attempt=1
    until mvn -q -B -Dstyle.color=never -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$fresh/libs" </dev/null >&2; do
        [ "$attempt" -lt 3 ] || { echo "fetch.sh: Maven failed $attempt times" >&2; exit 1; }
        attempt=$((attempt + 1))
    done
    chmod 755 "$fresh"
    # Someone without the lock may have been faster; a complete folder of theirs serves as well as ours.
    mv -T "$fresh" "$target" 2>/dev/null || [ -d "$target" ]
fi
echo "$target"
