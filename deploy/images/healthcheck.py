"""A container's health: `healthcheck.py PORT PATH` ends with 0 if this machine answers there with 200, else with 1.
Invariant: it needs nothing but Python, and asks directly, whatever proxy the environment names."""

import http.client
import sys


def main() -> int:
    port, path = sys.argv[1:]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=2.0)
    try:
        connection.request("GET", path)
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
