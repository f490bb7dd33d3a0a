"""The servers of the tests start, survive a kill and end."""

import socket

import psycopg
import pytest
import redis

from tests.support.servers import Server, postgres, valkey


def is_open(server: Server) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


@pytest.mark.real
def test_valkey_is_empty_after_a_kill() -> None:
    with valkey() as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("name", "value")
        server.kill()
        assert not is_open(server)
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("name") is None
    assert not is_open(server)


@pytest.mark.real
def test_postgres_keeps_its_data_after_a_kill() -> None:
    with postgres() as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table things (name text)")
            connection.commit()
        server.kill()
        assert not is_open(server)
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("select count(*) from things").fetchone() == (0,)
    assert not is_open(server)
