from biomeroworker.engine.poll_schedule import next_interval


def intervals(count, *, changed=False, longest=15.0):
    found, interval = [], None
    for _ in range(count):
        interval = next_interval(interval, changed=changed, first=2.0, longest=longest)
        found.append(interval)
    return found


def test_the_first_poll_is_soon_for_short_jobs():
    assert intervals(1) == [2.0]


def test_the_interval_grows_while_nothing_is_new():
    found = intervals(6)
    assert found == sorted(found)
    assert found[-1] == 15.0


def test_four_polls_cover_the_first_fifteen_seconds():
    assert sum(intervals(4)) > 15


def test_the_interval_does_not_grow_after_news():
    assert next_interval(5.0, changed=True, first=2.0, longest=15.0) == 5.0


def test_the_site_sets_the_longest_interval():
    assert max(intervals(10, longest=3.0)) == 3.0
