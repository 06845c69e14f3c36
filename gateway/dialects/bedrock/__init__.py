"""Amazon Bedrock Runtime: the Converse calls, which every other dialect can be told, and the Invoke calls, which are a model's own.

dialect  doors, addresses, credential, errors
reader   what the events of ConverseStream say
invoke   what the chunks of InvokeModelWithResponseStream say, whatever model speaks
prompt   a Converse request as a prompt
compose  a prompt as a Converse request
families what single families of models take beside it
writer   an answer as ConverseStream says it
"""

from gateway.dialects.bedrock.dialect import BEDROCK

__all__ = ["BEDROCK"]
