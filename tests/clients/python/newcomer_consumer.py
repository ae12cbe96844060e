# The second script that a newcomer writes. The test adds its broker's address and changes nothing else.
from kafka import KafkaConsumer

for message in KafkaConsumer('log_topic', group_id='log_group', auto_offset_reset='earliest'):
    print(message.topic, message.offset, message.value.decode(), flush=True)
