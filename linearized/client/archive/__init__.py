"""Archives: what lets a user's next device read what this one could (``docs/decisions/0034``).

``session.Archive`` is what an application uses; ``records`` seals and opens, ``keeping`` decides what is
kept, ``sharing`` hands keys from device to device, ``reading`` checks what comes back.
"""
