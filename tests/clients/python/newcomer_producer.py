# The first script that a newcomer writes. The test puts its broker's port for 9092 and changes nothing else.
from kafka import KafkaProducer

producer = KafkaProducer(bootstrap_servers='localhost:9092')
for number in range(10):
    producer.send('log_topic', f'line {number}'.encode())
