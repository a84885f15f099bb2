"""A record that nobody can read and that is as large as records get."""

from aiokafka import AIOKafkaProducer

from tests.integration.common.bench import Bench, Gate
from tests.integration.common.test_dead_letters import letters


async def test_a_large_poison_record_does_not_stop_the_stage(bench: Bench) -> None:
    """Its letter, with the provenance, would be too large for Kafka: it is cut, and says so."""
    gate = Gate()
    async with AIOKafkaProducer(bootstrap_servers=bench.bootstrap) as producer:
        await producer.send_and_wait(bench.topic, b"x" * 1_048_300, key=b"k", partition=0)
    await bench.send(2, partition=0)
    async with bench.running(bench.stage(gate)):
        await bench.until_committed()
    assert gate.finished == [bench.chunk(2)]
    [(record, provenance)] = await letters(bench)
    assert record.value is not None
    assert 0 < len(record.value) < 1_048_300
    assert "1048300 bytes" in provenance.message
