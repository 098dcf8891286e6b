"""Event files, as TensorBoard reads them."""

import struct

from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog


def _check(data, masked):
    """A part of a record fits its sum, which is stored rotated and shifted."""
    crc = crc32c(data)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF) == masked


def records(path):
    """The events of one file, but for one at the end that was cut off."""
    content, events = path.read_bytes(), []
    while len(content) >= 16:
        length = struct.unpack("<Q", content[:8])[0]
        if len(content) < length + 16:
            break
        event = content[12 : 12 + length]
        _check(content[:8], content[8:12])
        _check(event, content[12 + length : 16 + length])
        events.append(Event.FromString(event))
        content = content[16 + length :]
    return events


def all_records(folder):
    """Those of all files, in the order in which TensorBoard reads them."""
    return [event for path in sorted(folder.iterdir()) for event in records(path)]


def shown(folder):
    """What TensorBoard shows: ``{tag: [(step, number, or PNG), ...]}``.

    Where a session starts, what there is of its step and later ones is dropped.
    """
    tags = {}
    for event in all_records(folder):
        if event.session_log.status == SessionLog.START:
            for tag, points in tags.items():
                tags[tag] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            found = value.image.encoded_image_string or value.simple_value
            tags.setdefault(value.tag, []).append((event.step, found))
    return tags
