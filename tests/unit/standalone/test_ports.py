import socket

from pixcrawler.standalone.ports import free_ports, is_free, keep_or_replace


def test_free_ports_are_different_and_free() -> None:
    """All can be listened on at the same time."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_a_port_that_is_listened_on_is_not_free() -> None:
    """Also where the other listens on every address."""
    for address in ("127.0.0.1", "0.0.0.0"):
        with socket.create_server((address, 0)) as server:
            assert not is_free(server.getsockname()[1])


def test_ports_are_kept_where_possible() -> None:
    """A free one stays; a taken, an unknown and a repeated one are replaced."""
    free, other = free_ports(2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = int(server.getsockname()[1])
        found = keep_or_replace([free, taken, None, 0, free, other])
    assert (found[0], found[5]) == (free, other)
    assert len(set(found)) == 6
    assert taken not in found
    assert all(found)
