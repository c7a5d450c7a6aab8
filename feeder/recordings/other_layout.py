"""Maps recordings to the joints of another layout."""

from dataclasses import replace

from feeder.recordings.files import Recorded
from feeder.recordings.recording import RecordingError
from net.utils.joint_maps import joint_map, map_joints
from net.utils.skeleton import Skeleton


def with_layout(recorded: Recorded, target: Skeleton) -> Recorded:
    """The recording with the joints of `target`.

    Raises:
        RecordingError: the layout of the recording is not known, or a joint of `target` cannot be computed.
    """
    if recorded.skeleton is None:
        raise RecordingError(
            None, f"its layout is not known, so it cannot be mapped to {target.name!r}; give --layout"
        )
    if recorded.skeleton == target:
        return recorded
    try:
        mapping = joint_map(recorded.skeleton, target)
    except ValueError as error:
        raise RecordingError(None, str(error)) from None
    recording, channels = recorded.recording, recorded.channels
    return recorded._replace(
        tracks=map_joints(recorded.tracks, mapping, channels),
        recording=replace(recording, joints=map_joints(recording.joints, mapping, channels)),
        skeleton=target,
    )
