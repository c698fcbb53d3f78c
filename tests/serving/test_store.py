"""The list of jobs: order, bound, and what is left of it after the end of the server."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from talkingface.errors import DataError, OutputError
from talkingface.serving.job import Job
from talkingface.serving.store import MOST_ENDS, JobStore, QueueFull


@pytest.fixture
def store(tmp_path):
    found = JobStore(tmp_path / "jobs.sqlite")
    yield found
    found.close()


def add(store: JobStore, count: int = 1, most: int = 100) -> list[Job]:
    jobs = [Job("IPLAP", f"s{number}", f"a{number}", 10, visible_mark=number % 2 == 1) for number in range(count)]
    for job in jobs:
        store.add(job, most)
    return jobs


def test_jobs_are_taken_in_the_order_of_their_coming_and_each_once(store):
    jobs = add(store, 30)
    taken: list[str] = []

    def take():
        while (job := store.claim()) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(job.id for job in jobs)
    assert store.counts() == {"running": 30}


def test_a_job_comes_back_as_it_was_put_in(store):
    job = add(store, 2)[1]
    assert store.find(job.id) == job
    assert store.find("nobody") is None
    first = store.claim()
    assert first == dataclasses.replace(store.find(first.id)) and first.state == "running" and first.began


def test_more_than_may_wait_are_turned_away_and_those_at_work_do_not_count(store):
    add(store, 2, most=2)
    with pytest.raises(QueueFull):
        add(store, 1, most=2)
    store.claim()
    add(store, 1, most=2)
    assert store.counts() == {"queued": 2, "running": 1}


def test_a_new_server_finds_the_jobs_of_the_last_one_in_their_order(tmp_path, store):
    jobs = add(store, 3)
    store.claim()
    store.end(store.claim().id, "done")
    again = JobStore(tmp_path / "jobs.sqlite")  # the first one is not closed, as after a kill
    assert again.recover() == 1
    assert [job.id for job in again.in_state("queued")] == [jobs[0].id, jobs[2].id]
    assert again.claim().id == jobs[0].id and again.find(jobs[1].id).state == "done"
    again.close()


def test_a_job_that_ends_the_server_each_time_is_given_up(store):
    job = add(store)[0]
    for ends in range(1, MOST_ENDS):
        assert store.claim().id == job.id and store.recover() == 1, ends
    store.claim()
    assert store.recover() == 0 and store.claim() is None
    assert store.find(job.id).state == "failed" and "was ended 5 times" in store.find(job.id).error


def test_what_has_ended_stays_as_it_ended(store):
    job = add(store)[0]
    assert store.end(job.id, "cancelled")
    assert not store.end(job.id, "done") and store.find(job.id).state == "cancelled"
    store.put_back(job.id)
    assert store.claim() is None


def test_a_job_that_is_put_back_keeps_its_place_and_remembers_deaths(store):
    first, second = add(store, 2)
    store.claim()
    store.put_back(first.id, died=True)
    assert [job.id for job in store.ahead(second.id)] == [first.id]
    assert store.claim().deaths == 1


def test_results_expire_and_later_all_is_forgotten(store):
    done, waiting = add(store, 2)
    store.claim()
    store.end(done.id, "done")
    assert store.in_state("done", before=time.time() - 1) == []
    assert [job.id for job in store.in_state("done", before=time.time() + 1)] == [done.id]
    store.expire(done.id)
    assert store.find(done.id).state == "expired"
    store.forget(time.time() + 1)
    assert store.find(done.id) is None and store.find(waiting.id).state == "queued"


def test_a_file_that_is_no_list_of_jobs_is_named(tmp_path):
    file = tmp_path / "jobs.sqlite"
    file.write_bytes(b"no database " * 100)
    with pytest.raises(DataError, match="jobs.sqlite: no list of jobs"):
        JobStore(file)
    with pytest.raises(OutputError, match="cannot be written"):
        JobStore(tmp_path / "missing" / "jobs.sqlite")


def test_a_list_of_another_version_is_refused(tmp_path, store):
    store._file.execute("PRAGMA user_version=99")
    with pytest.raises(DataError, match="version 99"):
        JobStore(tmp_path / "jobs.sqlite")
